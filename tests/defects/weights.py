"""Planted: what a file stores: weights, biases, normalisation, slopes."""

from __future__ import annotations

import numpy as np
import onnx
import torch
from detparity.kit.exporters.options import ExportOptions, to_onnx
from detparity.kit.tests.defects import edits, modules
from detparity.kit.tests.defects.registry import defect

from detparity.core.vocabulary import Variant
from detparity.models.yolov7.detector import YoloDetector
from detparity.models.yolov7.network import FixedPredictions


@defect("parity.isolation", "parity.batches", variant="raw-dynamic")
def batch_normalised(model: onnx.ModelProto) -> onnx.ModelProto:
    """Images are scaled by the largest mean of their batch, which is an image's own where it is alone."""

    def scaled(x: str, op: edits.Op) -> str:
        means = op("ReduceMean", x, axes=[1, 2, 3], keepdims=1)
        return op("Mul", x, op("Div", means, op("ReduceMax", means, axes=[0], keepdims=1)))

    edits.splice(model, "images", scaled)
    return model


@defect("structure.weights", "parity.declared", variant="grid-dynamic", says="set to zero")
def bias_lost(model: onnx.ModelProto) -> onnx.ModelProto:
    """The batch-norm's share of one convolution's bias is lost: the bias is zero."""
    name = edits.bias(model, 12)
    edits.set_value(model, name, np.zeros_like(edits.value_of(model, name)))
    return model


@defect("structure.axes", "structure.shapes", "parity.declared", variant="grid", says="9 where 10 is promised")
def classes_one_fewer(model: onnx.ModelProto) -> onnx.ModelProto:
    """The last class is cut off; the names still list it."""
    fields = edits.fields(model) - 1
    edits.splice(model, "output", lambda x, op: edits.cut(op, x, 0, fields, -1))
    edits.set_axis(model.graph.output[0], 2, fields)
    return model


@defect("structure.weights", "parity.declared", "parity.map", variant="grid", says="class at stride 8")
def classes_permuted(model: onnx.ModelProto) -> onnx.ModelProto:
    """The class rows of one head convolution are shifted by one: boxes right, labels wrong."""
    fields = edits.fields(model)
    head = next(node for node in edits.nodes(model, "Conv") if len(edits.value_of(model, node.input[2])) == 3 * fields)
    for name in head.input[1:3]:
        values = edits.value_of(model, name)
        rows = values.reshape(3, fields, -1)
        rows[:, 5:] = np.roll(rows[:, 5:], 1, axis=1)
        edits.set_value(model, name, rows.reshape(values.shape))
    return model


@defect("structure.weights", "parity.declared", variant="grid")
def norm_dropped(detector: YoloDetector, variant: Variant, options: ExportOptions) -> bytes:
    """One convolution keeps the weights from before the fold and its batch-norm is gone."""
    network = modules.network_of(detector)
    with torch.no_grad():
        network.model[7].block.conv.weight.copy_(torch.tensor(detector.weights[6].plain.copy()))
    return to_onnx(detector, variant, options, FixedPredictions(network, options.size).eval())


@defect("structure.batch-norm", variant="grid-dynamic", unseen_by=("parity.declared", "structure.weights"))
def norm_kept(model: onnx.ModelProto) -> onnx.ModelProto:
    """A batch-norm stays behind its convolution: the numbers are right, the work is done twice."""
    channels = len(edits.value_of(model, edits.bias(model, 3)))
    ones, zeros = np.ones(channels, np.float32), np.zeros(channels, np.float32)
    edits.splice(
        model,
        edits.nodes(model, "Conv")[3].output[0],
        lambda x, op: op("BatchNormalization", x, ones, zeros, zeros, ones, epsilon=1e-9),
    )
    return model


@defect("structure.operators", "structure.batch-norm", variant="grid-dynamic", says="training mode")
def norm_training(model: onnx.ModelProto) -> onnx.ModelProto:
    """A batch-norm was exported in training mode, with the outputs that only training has."""
    channels = len(edits.value_of(model, edits.bias(model, 3)))
    ones, zeros = np.ones(channels, np.float32), np.zeros(channels, np.float32)
    edits.splice(
        model,
        edits.nodes(model, "Conv")[3].output[0],
        lambda x, op: op("BatchNormalization", x, ones, zeros, zeros, ones),
    )
    extra = [f"statistics_{index}" for index in range(4)]
    edits.nodes(model, "BatchNormalization")[0].output.extend(extra)
    return model


@defect("parity.declared", variant="grid-dynamic")
def relu_for_leaky(model: onnx.ModelProto) -> onnx.ModelProto:
    """One leaky activation became a plain Relu."""
    edits.replace(model, edits.nodes(model, "LeakyRelu")[7], lambda x, op: op("Relu", x))
    return model


@defect("structure.attributes", "parity.declared", variant="raw", says="slope")
def slope_wrong(model: onnx.ModelProto) -> onnx.ModelProto:
    """One leaky activation has the slope 0.11 where the model has 0.1."""
    edits.set_attribute(edits.nodes(model, "LeakyRelu")[30], "alpha", 0.11)
    return model


@defect("structure.weights", "parity.declared", variant="grid", says="multiplied by 1.0001")
def weight_error_first(model: onnx.ModelProto) -> onnx.ModelProto:
    """The first convolution's weights are 1e-4 too large."""
    name = edits.weight(model, 0)
    edits.set_value(model, name, edits.value_of(model, name) * np.float32(1.0001))
    return model


@defect("structure.weights", "parity.declared", variant="raw", says="multiplied by 0.9999")
def weight_error_head(model: onnx.ModelProto) -> onnx.ModelProto:
    """The last head convolution's weights are 1e-4 too small."""
    name = edits.weight(model, -1)
    edits.set_value(model, name, edits.value_of(model, name) * np.float32(0.9999))
    return model


@defect("structure.weights", "parity.declared", variant="grid-dynamic", says="values differ")
def weight_error_middle(model: onnx.ModelProto) -> onnx.ModelProto:
    """The weights of a convolution in the middle are off by 1e-4 of each value, some up and some down."""
    name = edits.weight(model, 25)
    values = edits.value_of(model, name)
    signs = np.where(np.random.default_rng(0).random(values.shape) < 0.5, -1, 1)
    edits.set_value(model, name, (values * (1 + 1e-4 * signs)).astype(np.float32))
    return model


@defect("structure.weights", "parity.declared", variant="raw", says="not finite")
def weight_nan(model: onnx.ModelProto) -> onnx.ModelProto:
    """One number of one convolution is NaN."""
    name = edits.weight(model, 10)
    values = edits.value_of(model, name)
    values.flat[3] = np.nan
    edits.set_value(model, name, values)
    return model


@defect("parity.declared", variant="raw-dynamic")
def weights_half_stored(model: onnx.ModelProto) -> onnx.ModelProto:
    """One convolution's weights are stored as float16 behind a Cast, where no reader of initializers finds them."""
    name = edits.weight(model, 5)
    edits.set_value(model, name, edits.value_of(model, name).astype(np.float16))
    edits.splice(model, name, lambda x, op: op("Cast", x, to=onnx.TensorProto.FLOAT))
    return model


@defect("parity.declared", variant="grid-dynamic")
def weights_miswired(model: onnx.ModelProto) -> onnx.ModelProto:
    """Two convolutions read each other's weights, each tensor intact under its own name."""
    first, second = edits.nodes(model, "Conv")[4:6]
    first.input[1], second.input[1] = second.input[1], first.input[1]
    return model


@defect("structure.weights", "parity.declared", variant="grid-dynamic", says="set to zero")
def weights_pruned(model: onnx.ModelProto) -> onnx.ModelProto:
    """The smallest hundredth of one convolution's weights is set to zero, as pruning does."""
    name = edits.weight(model, 20)
    values = edits.value_of(model, name)
    small = np.abs(values) < np.quantile(np.abs(values), 0.01)
    edits.set_value(model, name, np.where(small, np.float32(0), values))
    return model


@defect("structure.weights", "parity.declared", variant="grid", says="rounded to float16")
def weights_rounded(model: onnx.ModelProto) -> onnx.ModelProto:
    """Every convolution's weights went through float16 and back."""
    for index in range(len(edits.nodes(model, "Conv"))):
        name = edits.weight(model, index)
        edits.set_value(model, name, edits.value_of(model, name).astype(np.float16).astype(np.float32))
    return model


@defect("structure.weights", "parity.declared", variant="grid-dynamic", says="it is the tensor of")
def weights_swapped(model: onnx.ModelProto) -> onnx.ModelProto:
    """Two convolutions of one shape hold each other's weights."""
    first, second = edits.weight(model, 4), edits.weight(model, 5)
    values = edits.value_of(model, first)
    edits.set_value(model, first, edits.value_of(model, second))
    edits.set_value(model, second, values)
    return model
