"""Planted: weights, the graph, selections, and traces."""

from __future__ import annotations

import numpy as np
import torch
from detparity.kit.tests.checks.foreign.registry import defect, on_part
from detparity.kit.tests.checks.foreign.stand_ins import BATCH, SIZES, STATIC, TRACED, made, onnx_of, traced_of
from detparity.kit.tests.defects import edits
from onnx import helper


@defect("parity.declared", says="nothing in common")
def weights_of_another_seed():
    """The file of another run of the same architecture."""
    return onnx_of("ultralytics", STATIC, made("ultralytics", seed=1))


@defect("parity.declared")
def weight_scaled(model):
    """One weight tensor is a thousandth too large."""
    name = edits.weight(model, 2)
    edits.set_value(model, name, (edits.value_of(model, name) * np.float32(1.001)).astype(np.float32))
    return model


@defect("parity.declared")
def weight_rounded(model):
    """One convolution has float16 weights."""
    name = edits.weight(model, 3)
    edits.set_value(model, name, edits.value_of(model, name).astype(np.float16).astype(np.float32))
    return model


@defect("parity.declared", on="detr")
def bias_off(model):
    """One bias of the head is off by a hundred-thousandth."""
    name = str(edits.nodes(model, "Conv")[-1].input[2])
    value = edits.value_of(model, name)
    value[2] += 1e-5
    edits.set_value(model, name, value)
    return model


@defect("parity.declared", says="other shapes")
def another_class_count():
    """The file of a model of seven classes."""
    return onnx_of("ultralytics", STATIC, made("ultralytics", classes=7))


@defect("parity.declared", says="has 4 outputs where the model gives 1")
def another_model():
    """The file of a model with other outputs."""
    return onnx_of("several")


@defect("structure.operators", says="Dropout in training mode")
def dropout_training(model):
    """A Dropout was exported in training mode."""
    edits.splice(model, edits.nodes(model, "Conv")[4].output[0], lambda x, op: op("Dropout", x, 0.1, np.array(True)))
    return model


@defect("parity.repeat")
def noise_added(model):
    """A random operator adds a millionth."""

    def noisy(x, op):
        return op("Add", x, op("RandomNormalLike", x, scale=1e-4))

    edits.splice(model, "output0", noisy)
    return model


@defect("structure.dead-nodes", level="SHOULD")
def branch_dead(model):
    """A branch reaches no output."""
    inner = edits.nodes(model, "Conv")[2].output[0]
    model.graph.node.append(helper.make_node("Relu", [inner], ["leaked"]))
    return model


@defect("structure.initializers", level="SHOULD")
def initializer_dead(model):
    """An initializer is left that nothing reads."""
    edits.add_constant(model, np.ones((4, 4), np.float32))
    return model


# Selections

END = "ultralytics-end2end"


@defect("parity.declared", on=END, says="another order")
def rows_reversed(model):
    """The worst rows come first."""
    edits.splice(model, "output0", lambda x, op: op("Gather", x, np.arange(29, -1, -1), axis=1))
    return model


@defect("parity.declared", on=END, says="another order")
def two_rows_exchanged(model):
    """The first row comes third."""
    edits.splice(model, "output0", lambda x, op: op("Gather", x, np.array([1, 2, 0, *range(3, 30)]), axis=1))
    return model


@defect("parity.declared", on=END, says="no partner")
def row_repeated(model):
    """One row is there twice, and another is not."""
    edits.splice(model, "output0", lambda x, op: op("Gather", x, np.array([0, 1, 1, *range(3, 30)]), axis=1))
    return model


@defect("parity.declared", on=END, says="no partner")
def row_less():
    """The best 29 of 30."""
    return onnx_of(END, STATIC, made(END, count=29))


@defect("parity.declared", on=END, says="no partner")
def row_more():
    """The best 31 of 30."""
    return onnx_of(END, STATIC, made(END, count=31))


@defect("parity.declared", on=END)
def score_changed(model):
    """One score is a ten-thousandth too large, and its rank the same."""
    more = np.zeros((1, 30, 1), np.float32)
    more[0, 0] = 1e-4
    return on_part(model, "output0", 4, 5, 2, lambda x, op: op("Add", x, more))


@defect("parity.declared", on=END)
def box_changed(model):
    """One box of thirty is moved by a thousandth of a pixel."""
    more = np.zeros((1, 30, 1), np.float32)
    more[0, 7] = 1e-3
    return on_part(model, "output0", 2, 3, 2, lambda x, op: op("Add", x, more))


@defect("parity.declared", on=END)
def class_numbers_from_one(model):
    """Classes are counted from one."""
    return on_part(model, "output0", 5, 6, 2, lambda x, op: op("Add", x, 1.0))


@defect("parity.declared", on=END)
def corners_by_size(model):
    """Boxes are a corner and a size."""

    def sized(x, op):
        return op("Sub", x, op("Slice", x, *(np.array([n], np.int64) for n in (0, 2, 2))))

    def boxes(x, op):
        low, high = edits.cut(op, x, 0, 2, 2), edits.cut(op, x, 2, 4, 2)
        return op("Concat", low, op("Sub", high, low), axis=2)

    return on_part(model, "output0", 0, 4, 2, boxes)


@defect("parity.declared", on="ultralytics-rtdetr")
def boxes_in_pixels(model):
    """Boxes are in pixels where fractions are due."""
    return on_part(model, "output0", 0, 4, 2, lambda x, op: op("Mul", x, np.array([96, 64, 96, 64], np.float32)))


NMS = "ultralytics-nms"


@defect("parity.declared", on=NMS)
def row_dropped(model):
    """The best row is empty."""
    mask = np.ones((1, 40, 1), np.float32)
    mask[0, 0] = 0
    edits.splice(model, "output0", lambda x, op: op("Mul", x, mask))
    return model


@defect("parity.declared", on=NMS)
def iou_threshold_off():
    """Rows overlap by 0.6 where 0.5 is due."""
    return onnx_of(NMS, STATIC, made(NMS, iou=0.6))


@defect("parity.declared", on=NMS)
def score_threshold_off():
    """Rows of 0.52 and more where 0.5 is due."""
    return onnx_of(NMS, STATIC, made(NMS, score=0.52))


@defect("parity.declared", on=NMS)
def suppressed_over_classes():
    """Suppression is over all classes."""
    return onnx_of(NMS, STATIC, made(NMS, offset=0.0))


@defect("parity.declared", on=NMS)
def nothing_suppressed():
    """Nothing is suppressed."""
    return onnx_of(NMS, STATIC, made(NMS, iou=1.0))


@defect("parity.declared", on="torchvision")
def labels_from_zero(model):
    """Labels are counted from zero, where zero is the background."""
    edits.splice(model, "labels", lambda x, op: op("Sub", x, np.array(1, np.int64)))
    return model


@defect("parity.declared", on="torchvision")
def scores_of_other_rows(model):
    """Every score is another row's."""

    def rolled(x, op):
        return op("Concat", edits.cut(op, x, 1, edits.END, 0), edits.cut(op, x, 0, 1, 0), axis=0)

    edits.splice(model, "scores", rolled)
    return model


@defect("parity.sizes", on=END, kind=SIZES)
def classes_wrong_at_other_sizes(model):
    """Class numbers are those of the exported size's order."""

    def other(x, op):
        height = op("Cast", op("Gather", op("Shape", "images"), np.array(2, np.int64), axis=0), to=1)
        return op("Where", op("Equal", height, 64.0), x, op("Sub", 4.0, x))

    return on_part(model, "output0", 5, 6, 2, other)


@defect("parity.batches", on=END, kind=BATCH)
def selected_of_the_first_image(model):
    """Every image of a batch gets the rows of the first."""
    edits.splice(model, "output0", lambda x, op: op("Add", edits.cut(op, x, 0, 1, 0), op("Mul", x, 0.0)))
    return model


# Traces


class Wrapped(torch.nn.Module):
    """A stand-in whose result is changed."""

    def __init__(self, name, change):
        super().__init__()
        self.inner, self.change = made(name), change

    def forward(self, x):
        return self.change(self.inner(x))


@defect("parity.declared", kind=TRACED, says="nothing in common")
def traced_another_seed():
    """The trace of another run."""
    return traced_of("ultralytics", made("ultralytics", seed=1))


@defect("parity.declared", kind=TRACED, on="ultralytics-seg")
def traced_prototypes_wrong():
    """The second output of a trace is off."""
    return traced_of("ultralytics-seg", Wrapped("ultralytics-seg", lambda found: (found[0], found[1] * 1.0001)))


@defect("parity.declared", kind=TRACED, on="detr")
def traced_boxes_wrong():
    """The boxes of a trace that returns a dictionary are corners of another box."""

    def change(found):
        return {"logits": found["logits"], "pred_boxes": found["pred_boxes"].flip(-1)}

    return traced_of("detr", Wrapped("detr", change))


@defect("parity.declared", kind=TRACED, says="other shapes")
def traced_output_transposed():
    """Rows and columns of a trace are exchanged."""
    return traced_of("ultralytics", Wrapped("ultralytics", lambda found: found.transpose(1, 2)))


@defect("script.training", kind=TRACED)
def traced_in_training_mode():
    """A trace with a dropout that was in training mode."""
    module = Wrapped("ultralytics", torch.nn.Dropout(0.1))
    module.change.train()
    return traced_of("ultralytics", module)
