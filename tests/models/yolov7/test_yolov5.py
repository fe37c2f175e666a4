"""Official YOLOv5 checkpoints: other blocks before the same head, and anchors that are stored in cells."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from detparity.kit.tests.models.yolov7 import standins, yolov5_standins

from detparity.core.errors import InputError
from detparity.inputs import images
from detparity.models.compat.pickler import save
from detparity.models.yolov7 import checkpoint_loader, yaml_config
from detparity.models.yolov7.architectures import P5_ANCHORS
from detparity.models.yolov7.network import Predictions
from detparity.models.yolov7.plan import Plan

EXACT = 1e-9
IMAGE = images.natural((64, 96), 7)[None]


def _plan(first: str = "Focus", pyramid: str = "SPPF", block: str = "C3") -> Plan:
    p = Plan(1 / 16, P5_ANCHORS)
    x = p.add("Focus", [0], 64, 3) if first == "Focus" else p.add("Conv", [0], 64, 6, 2, 2)
    c3 = p.add(block, [p.conv(p.conv(x, 128, 3, 2), 256, 3, 2)], 256, repeat=2)
    c4 = p.add(block, [p.conv(c3, 256, 3, 2)], 256)
    c5 = p.conv(c4, 256, 3, 2)
    top = p.add(pyramid, [c5], 256)
    mid = p.add(block, [p.concat(p.enlarge(top), c4)], 128)
    fine = p.add(block, [p.concat(p.enlarge(mid), c3)], 128)
    p.detect("Detect", [fine, mid, top])
    return p


def _checkpoint(model: Any, path: Path) -> Path:
    with standins.installed():
        save(standins.stripped(model), path)
    return path


def _worst(path: Path, model: Any) -> float:
    detector = checkpoint_loader.load(path)
    with torch.no_grad():
        found = Predictions(detector.exact)(torch.from_numpy(IMAGE).double()).numpy()
        rounded = torch.jit.script(Predictions(detector.network))(torch.from_numpy(IMAGE)).numpy()
    truth = standins.run(model, IMAGE)
    assert np.abs(rounded - truth).max() < 1e-2
    return float(np.abs(found - truth).max())


@pytest.mark.parametrize(
    "blocks",
    [
        ("Focus", "SPP", "C3"),
        ("Conv", "SPPF", "C3"),
        ("Conv", "SPPF", "C3Ghost"),
        ("Focus", "C3SPP", "BottleneckCSP"),
        ("Focus", "GhostConv", "C3Ghost"),
    ],
    ids="-".join,
)
def test_its_blocks_compute_what_they_do_there(blocks, tmp_path):
    model = _half(standins.build(_plan(*blocks), 3, 3))
    assert _worst(_checkpoint(model, tmp_path / "five.pt"), model) < EXACT


def _half(model: Any) -> Any:
    """As released: rounded to float16, so that what is loaded is what runs."""
    return model.half().float()


def test_anchors_in_cells_are_read(tmp_path):
    """Since its version 6 the official head has no `anchor_grid` buffer, but a list with views of it, expanded after a run."""
    model = _half(standins.build(_plan("Conv"), 3, 3))
    truth_of = standins.build(_plan("Conv"), 3, 3)
    head = model.model[-1]
    views = [grid[:, :, :1].expand(1, 3, 8, 12, 2) for grid in head.anchor_grid]
    del head._buffers["anchor_grid"]
    head.anchor_grid = views

    assert _worst(_checkpoint(model, tmp_path / "six.pt"), _half(truth_of)) < EXACT


def test_a_strided_ghost_block_adds_the_halved_input(tmp_path):
    p = Plan(1 / 16, P5_ANCHORS)
    c3 = p.add("GhostBottleneck", [p.add("GhostConv", [p.conv(0, 64, 3, 2)], 128, 3, 2)], 128, 3, 2)
    c4 = p.add("DWConv", [c3], 128, 3, 2)
    c5 = p.conv(c4, 128, 3, 2)
    p.detect("Detect", [c3, c4, c5])
    model = _half(standins.build(p, 3, 3))

    assert _worst(_checkpoint(model, tmp_path / "ghost.pt"), model) < EXACT


def test_a_state_dict_with_its_table_is_the_model(tmp_path):
    table = {
        "nc": 3,
        "depth_multiple": 1.0,
        "width_multiple": 1 / 16,
        "anchors": [[side for pair in level for side in pair] for level in P5_ANCHORS],
        "backbone": [
            [-1, 1, "Focus", [64, 3]],
            [-1, 1, "Conv", [128, 3, 2]],
            [-1, 1, "Conv", [128, 3, 2]],
            [-1, 3, "C3", [128]],
            [-1, 1, "Conv", [256, 3, 2]],
            [-1, 2, "C3Ghost", [256]],
            [-1, 1, "Conv", [256, 3, 2]],
            [-1, 1, "SPPF", [256, 5]],
        ],
        "head": [[[3, 5, 7], 1, "Detect", ["nc", "anchors"]]],
    }
    plan, _ = yaml_config.plan_of(table)
    model = standins.build(plan, 3, 3)
    save(model.state_dict(), tmp_path / "state.pt")

    detector = checkpoint_loader.load(tmp_path / "state.pt", plan=plan)

    with torch.no_grad():
        found = Predictions(detector.exact)(torch.from_numpy(IMAGE).double()).numpy()
    assert np.abs(found - standins.run(model, IMAGE)).max() < EXACT


def test_a_norm_that_does_not_fit_its_branches_is_one_line(tmp_path):
    model = standins.build(_plan("Conv", "SPPF", "BottleneckCSP"), 3, 3)
    next(m for m in model.modules() if isinstance(m, yolov5_standins.BottleneckCSP)).bn = torch.nn.BatchNorm2d(2)

    with pytest.raises(InputError, match=r"layer 3: the norm of models.common.BottleneckCSP states a weight"):
        checkpoint_loader.load(_checkpoint(model, tmp_path / "odd.pt"))


def test_a_model_for_segmentation_is_refused_as_one(tmp_path):
    """yolov5s-seg.pt and yolov7-seg.pt hold expanded tensors besides, which are no reason to refuse a file."""
    model = standins.build(_plan("Conv"), 3, 3)
    model.__class__ = yolov5_standins.SegmentationModel
    model.model[-1].grid = [torch.zeros(1, 1, 1, 1, 2).expand(1, 3, 8, 12, 2)]

    with pytest.raises(InputError) as caught:
        checkpoint_loader.load(_checkpoint(model, tmp_path / "seg.pt"))

    words = "its 'model' is a models.yolo.SegmentationModel, a model for segmentation, and only detectors are read"
    assert str(caught.value).endswith(words)
