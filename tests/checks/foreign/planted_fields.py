"""Planted: what the numbers of an output mean, and what the input takes."""

from __future__ import annotations

import numpy as np
from detparity.kit.tests.checks.foreign import stand_ins
from detparity.kit.tests.checks.foreign.registry import defect, on_input, on_part, ordered
from detparity.kit.tests.defects import edits

COLUMNS = 1  # the axis of an ultralytics output
HEIGHT, WIDTH = stand_ins.SIZE


@defect("parity.declared")
def x_and_y_exchanged(model):
    """The centre is (y, x)."""
    return ordered(model, "output0", [1, 0, *range(2, 9)], COLUMNS)


@defect("parity.declared")
def w_and_h_exchanged(model):
    """The size is (height, width)."""
    return ordered(model, "output0", [0, 1, 3, 2, *range(4, 9)], COLUMNS)


@defect("parity.declared")
def boxes_after_classes(model):
    """Class scores come first, boxes last."""
    return ordered(model, "output0", [*range(4, 9), *range(4)], COLUMNS)


@defect("parity.declared")
def corners_for_centres(model):
    """Boxes are corners where centres and sizes are due."""

    def corners(x, op):
        half = op("Mul", edits.cut(op, x, 2, 4, COLUMNS), 0.5)
        centre = edits.cut(op, x, 0, 2, COLUMNS)
        return op("Concat", op("Sub", centre, half), op("Add", centre, half), axis=COLUMNS)

    return on_part(model, "output0", 0, 4, COLUMNS, corners)


@defect("parity.declared")
def boxes_normalised(model):
    """Boxes are fractions of the image's sides."""
    sides = np.array([WIDTH, HEIGHT, WIDTH, HEIGHT], np.float32).reshape(1, 4, 1)
    return on_part(model, "output0", 0, 4, COLUMNS, lambda x, op: op("Div", x, sides))


@defect("parity.declared", says="with its last two axes exchanged")
def output_transposed(model):
    """Rows and columns are exchanged."""
    edits.splice(model, "output0", lambda x, op: op("Transpose", x, perm=[0, 2, 1]))
    for axis, count in ((1, 126), (2, 9)):
        edits.set_axis(model.graph.output[0], axis, count)
    return model


@defect("parity.declared")
def sigmoid_left_out(model):
    """Class scores are logits."""
    return on_part(model, "output0", 4, edits.END, COLUMNS, lambda x, op: op("Log", op("Div", x, op("Sub", 1.0, x))))


@defect("parity.declared")
def sigmoid_doubled(model):
    """Class scores pass through a second sigmoid."""
    return on_part(model, "output0", 4, edits.END, COLUMNS, lambda x, op: op("Sigmoid", x))


@defect("parity.declared", says="are the model's 5, 6, 7, 8, 4")
def classes_shifted(model):
    """Every class has the score of the next one."""
    return ordered(model, "output0", [*range(4), 5, 6, 7, 8, 4], COLUMNS)


@defect("parity.declared")
def classes_permuted(model):
    """Two classes are exchanged."""
    return ordered(model, "output0", [*range(4), 4, 7, 6, 5, 8], COLUMNS)


@defect("parity.declared", on="yolov5")
def objectness_multiplied_in(model):
    """Class scores are multiplied by the objectness."""

    def multiply(x, op):
        score = edits.cut(op, x, 0, 1, 2)
        return op("Concat", score, op("Mul", edits.cut(op, x, 1, edits.END, 2), score), axis=2)

    return on_part(model, "output0", 4, edits.END, 2, multiply)


@defect("parity.declared")
def boxes_clipped(model):
    """Boxes are clipped to the image."""
    return on_part(model, "output0", 0, 4, COLUMNS, lambda x, op: op("Clip", x, 0.0, float(WIDTH)))


@defect("parity.declared", on="ultralytics-obb", says="row 100, column 9")
def angle_by_a_quarter(model):
    """One row's angle is a quarter off, as where width and height are taken for one another."""
    turned = np.zeros((1, 1, 126), np.float32)
    turned[..., 100] = np.pi / 2
    return on_part(model, "output0", 9, 10, COLUMNS, lambda x, op: op("Add", x, turned))


@defect("parity.declared", on="ultralytics-pose")
def visibility_without_sigmoid(model):
    """The visibility of one keypoint is a logit."""
    return on_part(model, "output0", 7, 8, COLUMNS, lambda x, op: op("Log", op("Div", x, op("Sub", 1.0, x))))


@defect("parity.declared", on="ultralytics-pose")
def visibility_slightly_off(model):
    """The visibility of one keypoint is too low by a hundred-thousandth, which is less than a keypoint's noise in pixels."""
    return on_part(model, "output0", 7, 8, COLUMNS, lambda x, op: op("Mul", x, 0.99999))


@defect("parity.declared", on="ultralytics-seg")
def prototypes_blurred(model):
    """Prototypes are enlarged by interpolation where nearest is due."""
    node = edits.nodes(model, "Resize")[0]
    edits.set_attribute(node, "mode", "linear")
    return model


@defect("parity.declared", on="ultralytics-seg")
def coefficients_permuted(model):
    """Two mask coefficients are exchanged."""
    return ordered(model, "output0", [*range(39), 40, 39], COLUMNS)


@defect("parity.declared", on="detr")
def corners_for_centres_in_fractions(model):
    """The boxes of queries are corners."""

    def corners(x, op):
        half = op("Mul", edits.cut(op, x, 2, 4, 2), 0.5)
        return op(
            "Concat", op("Sub", edits.cut(op, x, 0, 2, 2), half), op("Add", edits.cut(op, x, 0, 2, 2), half), axis=2
        )

    edits.splice(model, "pred_boxes", corners)
    return model


@defect("parity.declared", on="detr")
def logits_through_sigmoid(model):
    """Logits are probabilities."""
    edits.splice(model, "logits", lambda x, op: op("Sigmoid", x))
    return model


@defect("parity.declared", on="several")
def heat_scaled(model):
    """One output of several is one ten-thousandth too large."""
    edits.splice(model, "heat", lambda x, op: op("Mul", x, 1.0001))
    return model


@defect("parity.declared", on="several")
def quality_of_the_first_row(model):
    """The one number an image is off in the fifth digit."""
    edits.splice(model, "quality", lambda x, op: op("Mul", x, 1.00005))
    return model


@defect("parity.declared", on="maps")
def map_channels_exchanged(model):
    """Two channels of one map are exchanged."""
    return ordered(model, "p4", [0, 1, 2, 3, 5, 4, 6, 7, 8], 1)


@defect("parity.declared", on="maps")
def map_mirrored(model):
    """One map is mirrored."""
    return ordered(model, "p3", list(range(11, -1, -1)), 3)


# What it takes


@defect("parity.declared")
def input_by_255(model):
    """The graph takes 0..255 and divides."""
    return on_input(model, lambda x, op: op("Div", x, 255.0))


@defect("parity.declared", on="yolox")
def input_times_255(model):
    """A second scaling to 0..255."""
    return on_input(model, lambda x, op: op("Mul", x, 255.0))


@defect("parity.declared")
def channels_reversed(model):
    """It takes BGR."""
    return on_input(model, lambda x, op: op("Gather", x, np.array([2, 1, 0], np.int64), axis=1))


@defect("parity.declared", on="channels-last")
def channels_reversed_last(model):
    """It takes BGR, channels last."""
    return on_input(model, lambda x, op: op("Gather", x, np.array([2, 1, 0], np.int64), axis=3))


@defect("parity.values", quick=False)
def rescales_dark_images(model):
    """Images whose mean is low are brightened, as for pixels that were divided twice."""

    def brighten(x, op):
        low = op("Less", op("ReduceMean", x, keepdims=1), 0.1)
        return op("Where", low, op("Mul", x, 4.0), x)

    return on_input(model, brighten)


@defect("parity.values", quick=False)
def black_is_nan(model):
    """Pixels are divided by their largest: a black picture gives no numbers."""

    def divide(x, op):
        most = op("ReduceMax", x, keepdims=1)
        return op("Mul", op("Div", x, most), most)

    return on_input(model, divide)
