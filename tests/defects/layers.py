"""Planted: layers between the image and the logits, and how images of a batch are kept apart."""

from __future__ import annotations

import json

import numpy as np
import onnx
from detparity.kit.tests.defects import edits
from detparity.kit.tests.defects.registry import defect


@defect(
    "parity.isolation",
    "parity.batches",
    variant="grid-dynamic",
    unseen_by=("parity.declared",),
    says="lets the other images of a batch change image 0",
)
def batch_leak(model: onnx.ModelProto) -> onnx.ModelProto:
    """A thousandth of the batch's mean is mixed into every image."""

    def mixed(x: str, op: edits.Op) -> str:
        return op("Add", op("Mul", x, 0.999), op("Mul", op("ReduceMean", x, axes=[0], keepdims=1), 0.001))

    edits.splice(model, "output", mixed)
    return model


@defect("parity.batches", variant="grid-dynamic", unseen_by=("parity.declared", "parity.isolation"))
def batch_of_the_first(model: onnx.ModelProto) -> onnx.ModelProto:
    """Every image of a batch gets the first one's predictions."""
    edits.splice(model, "output", lambda x, op: op("Expand", edits.cut(op, x, 0, 1, 0), op("Shape", x)))
    return model


@defect("parity.isolation", "parity.batches", variant="grid-dynamic", unseen_by=("parity.declared",))
def batch_reversed(model: onnx.ModelProto) -> onnx.ModelProto:
    """The images of a batch come out in the opposite order."""

    def reverse(x: str, op: edits.Op) -> str:
        first, last, step = np.array([-1], np.int64), np.array([np.iinfo(np.int64).min + 1], np.int64), [-1]
        return op("Slice", x, first, last, np.array([0], np.int64), np.array(step, np.int64))

    edits.splice(model, "output", reverse)
    return model


@defect("parity.values", variant="grid-dynamic", unseen_by=("parity.declared",))
def black_is_nan(model: onnx.ModelProto) -> onnx.ModelProto:
    """The image is scaled by a sum over the same sum, which is nothing, and 0 / 0 where the image is black."""

    def scaled(x: str, op: edits.Op) -> str:
        total = op("ReduceSum", x, axes=[1, 2, 3], keepdims=1)
        return op("Mul", x, op("Div", total, op("Mul", total, 1.0)))

    edits.splice(model, "images", scaled)
    return model


@defect("parity.declared", variant="grid-dynamic")
def input_bgr(model: onnx.ModelProto) -> onnx.ModelProto:
    """The first and the last channel of the image are exchanged."""
    edits.splice(model, "images", lambda x, op: op("Gather", x, np.array([2, 1, 0], np.int64), axis=1))
    return model


@defect("parity.values", variant="grid-dynamic")
def input_own_maximum(model: onnx.ModelProto) -> onnx.ModelProto:
    """The image is divided by its own maximum: noise reaches 1, a dark scene does not."""
    edits.splice(model, "images", lambda x, op: op("Div", x, op("ReduceMax", x, axes=[1, 2, 3], keepdims=1)))
    return model


@defect("parity.declared", variant="grid-dynamic")
def input_scaled(model: onnx.ModelProto) -> onnx.ModelProto:
    """The division by 255 is in the graph although the promised input is in 0..1."""
    edits.splice(model, "images", lambda x, op: op("Div", x, 255.0))
    return model


@defect("structure.attributes", "parity.declared", variant="grid-dynamic", says="pads")
def pads_one_sided(model: onnx.ModelProto) -> onnx.ModelProto:
    """A convolution is padded at its end alone, as another framework's "same" does."""
    edits.set_attribute(edits.nodes(model, "Conv")[1], "pads", [0, 0, 2, 2])
    return model


@defect("parity.declared", variant="raw-dynamic")
def pool_average(model: onnx.ModelProto) -> onnx.ModelProto:
    """A max-pool became an average pool."""
    edits.replace(
        model,
        edits.nodes(model, "MaxPool")[0],
        lambda x, op: op("AveragePool", x, kernel_shape=[2, 2], strides=[2, 2]),
    )
    return model


@defect("parity.declared", variant="grid-dynamic")
def pool_shifted(model: onnx.ModelProto) -> onnx.ModelProto:
    """A same-size max-pool is padded unevenly: right shape, every value one cell off."""
    pools = edits.nodes(model, "MaxPool")
    same = next(pool for pool in pools if list(edits.attribute(pool, "kernel_shape").ints) == [5, 5])
    edits.set_attribute(same, "pads", [1, 1, 3, 3])
    return model


@defect(
    "structure.baked-size",
    "parity.sizes",
    variant="raw-dynamic",
    unseen_by=("parity.declared",),
    says="[-1, 3, 10, 32, 40]",
)
def reshape_baked(model: onnx.ModelProto) -> onnx.ModelProto:
    """The heads are reshaped to the cells of the export's size in a file that promises every size."""
    height, width = json.loads(edits.metadata(model)["imgsz"])
    for node, stride in zip(edits.nodes(model, "Reshape"), (8, 16, 32)):
        target = [-1, 3, edits.fields(model), height // stride, width // stride]
        node.input[1] = edits.add_constant(model, np.array(target, np.int64))
    return edits.prune(model)


@defect("structure.shapes", "parity.batches", variant="grid-dynamic", unseen_by=("parity.declared",))
def reshape_batch_baked(model: onnx.ModelProto) -> onnx.ModelProto:
    """The last reshapes fix the batch of the export: another batch is folded into the rows."""
    for name in edits.nodes(model, "Concat")[-1].input:
        node = edits.producer(model, name)
        assert node is not None
        node.input[1] = edits.add_constant(model, np.array([1, -1, edits.fields(model)], np.int64))
    return edits.prune(model)


@defect("structure.baked-size", "parity.sizes", variant="grid-dynamic", unseen_by=("parity.declared",))
def resize_baked(model: onnx.ModelProto) -> onnx.ModelProto:
    """One enlargement goes to the size it had at the export."""
    node = edits.nodes(model, "Resize")[0]
    activation = edits.producer(model, node.input[0])
    assert activation is not None
    conv = edits.producer(model, activation.input[0])
    assert conv is not None
    height, width = json.loads(edits.metadata(model)["imgsz"])
    sizes = [1, len(edits.value_of(model, conv.input[2])), height // 16, width // 16]
    node.input[:] = [*node.input[:2], node.input[1], edits.add_constant(model, np.array(sizes, np.int64))]
    return edits.prune(model)


@defect("parity.declared", variant="raw")
def resize_ceil(model: onnx.ModelProto) -> onnx.ModelProto:
    """Enlarging rounds up where the model rounds down: everything behind it is one pixel off."""
    edits.set_attribute(edits.nodes(model, "Resize")[0], "nearest_mode", "ceil")
    return model


@defect("parity.declared", variant="grid-dynamic")
def resize_half_pixel(model: onnx.ModelProto) -> onnx.ModelProto:
    """Enlarging takes pixel centres where the model takes corners, and still rounds down."""
    edits.set_attribute(edits.nodes(model, "Resize")[1], "coordinate_transformation_mode", "half_pixel")
    return model


@defect("parity.declared", variant="grid-dynamic")
def resize_linear(model: onnx.ModelProto) -> onnx.ModelProto:
    """Enlarging is linear where the model repeats pixels."""
    edits.set_attribute(edits.nodes(model, "Resize")[0], "mode", "linear")
    return model


@defect("parity.values", variant="grid-dynamic")
def white_wraps(model: onnx.ModelProto) -> onnx.ModelProto:
    """Full white wraps to black, as 256 does in eight bits."""
    edits.splice(model, "images", lambda x, op: op("Mod", x, 1.0, fmod=1))
    return model
