"""Functions of autograd with a symbolic: their eager result means nothing."""

import numpy as np
import pytest
import torch
from torch import nn

NEW = tuple(map(int, torch.__version__.split(".")[:2]))
if NEW < (1, 13):
    pytest.skip("float64 of any module is for torch 1.13 and newer", allow_module_level=True)

from detparity.models.module_reference import Made, ModuleReference
from detparity.models.reference import CannotRunReference, ReferenceFacts
from detparity.models.symbolic_functions import symbolic_functions
from detparity.oracle.nms import efficient_nms, onnx_nms


class Suppression(torch.autograd.Function):
    @staticmethod
    def forward(ctx, boxes, scores, cap, iou, score):
        return torch.randint(0, 3, (7, 3))

    @staticmethod
    def symbolic(g, boxes, scores, cap, iou, score):
        return g.op("NonMaxSuppression", boxes, scores, cap, iou, score)


class Plugin(torch.autograd.Function):
    @staticmethod
    def forward(ctx, boxes, scores, iou):
        return torch.zeros(1), torch.zeros(1), torch.zeros(1), torch.zeros(1)

    @staticmethod
    def symbolic(g, boxes, scores, iou):
        return g.op(
            "TRT::EfficientNMS_TRT",
            boxes,
            scores,
            background_class_i=-1,
            box_coding_i=1,
            iou_threshold_f=iou,
            max_output_boxes_i=5,
            plugin_version_s="1",
            score_activation_i=0,
            score_threshold_f=0.1,
            outputs=4,
        )


class Strange(torch.autograd.Function):
    @staticmethod
    def forward(ctx, value):
        return value * torch.rand(1)

    @staticmethod
    def symbolic(g, value):
        return g.op("mine::Strange", value)


class Unreadable(Strange):
    @staticmethod
    def symbolic(g, value):
        return g.op("Cast", value, to_i=value.type().scalarType())


bound_earlier = Suppression.apply
CAP, IOU, SCORE = torch.tensor([3]), torch.tensor([0.5]), torch.tensor([0.2])


class Model(nn.Module):
    def __init__(self, last):
        super().__init__()
        self.last = last

    def forward(self, images):
        rows = images.flatten(2).transpose(1, 2)
        return self.last(rows[..., :4] * 10, rows[..., 4:])


def reference(last):
    facts = ReferenceFacts("model", "", (1, 6, 4, 4), ())
    return ModuleReference(Made(Model(last).eval(), facts))


@pytest.fixture
def images():
    return np.random.default_rng(0).random((1, 6, 4, 4), np.float32)


def _inputs(images, kind):
    rows = images.astype(kind).reshape(1, 6, 16).transpose(0, 2, 1)
    return rows[..., :4] * kind(10), rows[..., 4:]


@pytest.mark.parametrize("way, kind", [("exact", np.float64), ("eager", np.float32)])
def test_a_suppression_is_that_of_the_operator_even_where_apply_was_bound_earlier(images, way, kind):
    made = reference(lambda boxes, scores: bound_earlier(boxes, scores.transpose(1, 2), CAP, IOU, SCORE))

    found = made.run(way, images)["output"]

    boxes, scores = _inputs(images, kind)
    assert found.tolist() == onnx_nms(boxes, scores.transpose(0, 2, 1), 3, 0.5, float(np.float32(0.2))).tolist()
    assert made.facts.notes[-1].startswith("Suppression is computed as NonMaxSuppression")


@pytest.mark.parametrize("way, kind", [("exact", np.float64), ("eager", np.float32)])
def test_the_plugin_is_that_of_its_documentation(images, way, kind):
    found = reference(lambda boxes, scores: Plugin.apply(boxes, scores, 0.45)).run(way, images)

    boxes, scores = _inputs(images, kind)
    attributes = dict(background_class=-1, score_activation=0, box_coding=1)
    expected = efficient_nms(boxes, scores, score_threshold=0.1, iou_threshold=0.45, max_output_boxes=5, **attributes)
    assert [value.dtype for value in found.values()] == [np.int32, kind, kind, np.int32]
    for one, other in zip(found.values(), expected):
        np.testing.assert_allclose(one, other, rtol=1e-6)


@pytest.mark.parametrize(
    "function, text", [(Strange, "exports to Strange"), (Unreadable, "a symbolic that cannot be read")]
)
def test_an_unknown_one_ends_the_comparison_there(images, function, text):
    with pytest.raises(CannotRunReference, match=f"{function.__name__}, .*{text}"):
        reference(lambda boxes, scores: function.apply(boxes)).run("exact", images)


def test_its_inputs_are_recorded_and_the_function_is_as_before_afterwards():
    boxes, scores = torch.rand(1, 6, 4), torch.rand(1, 1, 6)
    before = Suppression.__dict__["forward"]
    with symbolic_functions() as calls:
        Suppression.apply(boxes, scores, CAP, IOU, SCORE)

    (call,) = calls
    assert (call.name, call.operator) == ("Suppression", "NonMaxSuppression")
    assert call.inputs[0].tolist() == boxes.tolist() and len(call.inputs) == 5
    assert Suppression.__dict__["forward"] is before
    assert len(Suppression.apply(boxes, scores, CAP, IOU, SCORE)) == 7
