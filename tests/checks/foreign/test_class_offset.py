"""A class offset in a captured file is judged by where the captured head can put boxes."""

from __future__ import annotations

import inspect

import pytest

pytest.importorskip("torch", minversion="1.13")

import torch

from detparity.cli.capture_verdict import judge_captures
from detparity.models.capture import capturing
from detparity.models.yolov7.foreign_head import head_of

pytestmark = pytest.mark.filterwarnings("ignore")  # the exporter under capture warns of its own deprecation
IOU, SIDE = 0.45, 32


class Suppression(torch.autograd.Function):
    """As the official module has it: its eager result means nothing."""

    @staticmethod
    def forward(ctx, boxes, scores, cap, iou, score):
        return torch.zeros(3, 3, dtype=torch.int64)

    @staticmethod
    def symbolic(g, boxes, scores, cap, iou, score):
        return g.op("NonMaxSuppression", boxes, scores, cap, iou, score)


class Detect(torch.nn.Module):
    """One level of one anchor, (16, 24) pixels, and two classes."""

    def __init__(self):
        super().__init__()
        self.conv = torch.nn.Conv2d(3, 7, 8, 8)
        self.stride = torch.tensor([8.0])
        self.register_buffer("anchors", torch.tensor([[[2.0, 3.0]]]))
        self.register_buffer("anchor_grid", torch.tensor([16.0, 24.0]).reshape(1, 1, 1, 1, 1, 2))

    def forward(self, images):
        found = torch.sigmoid(self.conv(images)).flatten(2).transpose(1, 2)
        cells = torch.arange(4.0)
        grid = torch.stack([cells.repeat(4), cells.repeat_interleave(4)], 1)
        xy = (found[..., :2] * 2 - 0.5 + grid) * 8
        wh = (found[..., 2:4] * 2) ** 2 * self.anchor_grid.reshape(2)
        return torch.cat([xy - wh / 2, xy + wh / 2], 2), found[..., 4:5] * found[..., 5:]


class End2End(torch.nn.Module):
    def __init__(self, max_wh):
        super().__init__()
        torch.manual_seed(0)
        self.model, self.max_wh = Detect(), max_wh

    def forward(self, images):
        boxes, scores = self.model(images)
        best, label = scores.max(2, keepdim=True)
        apart = boxes + label.float() * self.max_wh
        limits = torch.tensor([100]), torch.tensor([IOU]), torch.tensor([0.1])
        held = Suppression.apply(apart, best.transpose(1, 2), *limits)
        image, row = held[:, 0], held[:, 2]
        return torch.cat([boxes[image, row], label[image, row].float(), best[image, row]], 1)


def test_the_head_is_read_and_others_are_not():
    assert head_of(torch.nn.Sequential(Detect())) == ((((16.0, 24.0),),), (8.0,))
    other = Detect()
    del other.anchor_grid
    assert head_of(other) == ((), ())


@pytest.mark.parametrize(("max_wh", "code"), [(SIDE, 1), (400, 0)])
def test_an_offset_of_one_image_side_violates(max_wh, code, tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    legacy = {"dynamo": False} if "dynamo" in inspect.signature(torch.onnx.export).parameters else {}
    with capturing() as captures:
        torch.onnx.export(End2End(max_wh).eval(), torch.zeros(1, 3, SIDE, SIDE), "m.onnx", opset_version=13, **legacy)

    assert judge_captures(captures, {"quick": True}) == code
    assert ("nms.class-offset: m.onnx keeps classes apart by an unsafe offset" in capsys.readouterr().out) is bool(code)
