"""Planted: good files in other forms, which every check must let pass."""

from __future__ import annotations

import json
from typing import Any, Dict, List

import numpy as np
import onnx
import torch
from detparity.kit.exporters.options import ExportOptions, to_onnx
from detparity.kit.tests.defects import edits
from detparity.kit.tests.defects.registry import control
from onnx import helper, shape_inference
from torch import Tensor

from detparity.core.vocabulary import Variant
from detparity.models.yolov7.detector import YoloDetector
from detparity.models.yolov7.network import Predictions


@control(variant="grid-dynamic")
def control_algebra(model: onnx.ModelProto) -> onnx.ModelProto:
    """The same decode in other words: x + x for 2 x, x x for x squared, a factor of one, a division by one."""
    ones = [node.output[0] for node in edits.counted(model)]
    for node in edits.nodes(model, "Pow"):
        if node.output[0] in ones:
            continue
        edits.replace(model, node, lambda x, op: op("Mul", x, x))
    for node in edits.nodes(model, "Slice"):
        for reader in [other for other in edits.nodes(model, "Mul") if other.input[0] == node.output[0]]:
            edits.replace(model, reader, lambda x, op: op("Add", x, x))
    edits.splice(model, "output", lambda x, op: op("Div", op("Mul", x, 1.0), 1.0))
    return edits.prune(model)


@control(variant="grid-dynamic")
def control_axes_from_the_end(model: onnx.ModelProto) -> onnx.ModelProto:
    """Axes counted from the end, where the operator set allows it."""
    for node in edits.nodes(model, "Concat"):
        axis, rank = edits.attribute(node, "axis").i, {0: 1, 1: 4, 4: 5}
        if node.output[0] != "output":
            edits.set_attribute(node, "axis", axis - rank[axis])
    return model


def _add(model: onnx.ModelProto, tensor: str, bias: np.ndarray) -> None:
    edits.splice(model, tensor, lambda x, op: op("Add", x, bias))


@control(variant="raw-dynamic")
def control_bias_added(model: onnx.ModelProto) -> onnx.ModelProto:
    """Biases are added by nodes of their own."""
    for node in edits.nodes(model, "Conv"):
        bias = edits.value_of(model, node.input[2]).reshape(-1, 1, 1)
        del node.input[2]
        _add(model, node.output[0], bias)
    return edits.prune(model)


@control(variant="raw-dynamic")
def control_constants(model: onnx.ModelProto) -> onnx.ModelProto:
    """Initializers are Constant nodes and Constant nodes are initializers."""
    tensors = list(model.graph.initializer)
    del model.graph.initializer[:]
    for node in edits.nodes(model, "Constant"):
        model.graph.initializer.add().CopyFrom(edits.attribute(node, "value").t)
        model.graph.initializer[-1].name = node.output[0]
        model.graph.node.remove(node)
    for tensor in reversed(tensors):
        model.graph.node.insert(0, helper.make_node("Constant", [], [tensor.name], value=tensor))
    return model


def gathered(level: Any, raw: Tensor) -> Tensor:
    s = torch.sigmoid(raw)
    xy, wh, scores = s.split([2, 2, level.fields - 4], 4)
    xy = xy * (2.0 * level.stride) + level.stride * (level.grid(raw) - 0.5)
    return torch.cat([xy, wh**2 * (4 * level.anchors), scores], 4).view(raw.shape[0], -1, level.fields)


@control(variant="grid-dynamic")
def control_decode(detector: YoloDetector, variant: Variant, options: ExportOptions) -> bytes:
    """The decode as the official export writes it, factors gathered: s (2 stride) + stride (grid - 0.5)."""

    class Gathered(Predictions):
        def decode(self, raw: List[Tensor]) -> Tensor:
            levels: Any = self.network.levels
            return torch.cat([gathered(level, logits) for level, logits in zip(levels, raw)], 1)

    return to_onnx(detector, variant, options, Gathered(detector.network).eval())


@control(variant="raw-dynamic")
def control_header(model: onnx.ModelProto) -> onnx.ModelProto:
    """An older IR version that carries the opset as well, another producer, notes, and metadata nobody asked for."""
    model.ir_version = 6
    model.producer_name, model.producer_version, model.doc_string = "another", "9.1", "made elsewhere"
    model.graph.name = "renamed"
    model.graph.node[0].doc_string = "where this came from"
    edits.set_metadata(model, author="somebody", stride_note="none")
    return model


@control(variant="raw-dynamic")
def control_identity(model: onnx.ModelProto) -> onnx.ModelProto:
    """Weights reach their convolutions through Identity nodes, as constant folding in torch 1.12 leaves them."""
    for index in (0, 7, 30):
        edits.splice(model, edits.weight(model, index), lambda x, op: op("Identity", x))
        edits.splice(model, edits.bias(model, index), lambda x, op: op("Identity", op("Identity", x)))
    return model


@control(variant="raw-dynamic")
def control_leaky(model: onnx.ModelProto) -> onnx.ModelProto:
    """Leaky activations written as the larger of x and x / 10, and one as PRelu."""
    first, *others = edits.nodes(model, "LeakyRelu")
    edits.replace(model, first, lambda x, op: op("PRelu", x, np.full((1, 1, 1), 0.1, np.float32)))
    for node in others:
        edits.replace(model, node, lambda x, op: op("Max", x, op("Mul", x, 0.1)))
    return model


@control(variant="raw-dynamic")
def control_merged(model: onnx.ModelProto) -> onnx.ModelProto:
    """Two convolutions that read the same tensor are one, its output split afterwards, as a simplifier may do."""
    first, second = edits.nodes(model, "Conv")[2:4]
    assert first.input[0] == second.input[0]
    both = [np.concatenate([edits.value_of(model, node.input[k]) for node in (first, second)]) for k in (1, 2)]
    half = len(both[1]) // 2
    first.input[1:] = [edits.add_constant(model, array) for array in both]
    source, right = first.output[0], second.output[0]
    model.graph.node.remove(second)
    first.output[0] = edits.fresh(model)
    split = helper.make_node("Split", [first.output[0]], [source, right], axis=1, split=[half, half])
    model.graph.node.insert(list(model.graph.node).index(first) + 1, split)
    return edits.prune(model)


@control(variant="grid")
def control_metadata_notation(model: onnx.ModelProto) -> onnx.ModelProto:
    """The same metadata in another notation: a Python dict of names, all strides, the size as a tuple."""
    entries = edits.metadata(model)
    names = dict(enumerate(json.loads(entries["names"])))
    edits.set_metadata(model, names=str(names), stride="[8, 16, 32]", imgsz=str(tuple(json.loads(entries["imgsz"]))))
    return model


@control(variant="raw-dynamic")
def control_padding(model: onnx.ModelProto) -> onnx.ModelProto:
    """Pools that round up, which changes nothing at multiples of the stride, and padding called SAME."""
    for node in edits.nodes(model, "MaxPool"):
        edits.set_attribute(node, "ceil_mode", 1)
    for node in edits.nodes(model, "Conv"):
        if list(edits.attribute(node, "strides").ints) == [1, 1]:
            node.attribute.remove(edits.attribute(node, "pads"))
            edits.set_attribute(node, "auto_pad", "SAME_UPPER")
    return model


@control(variant="grid-dynamic")
def control_renamed(model: onnx.ModelProto) -> onnx.ModelProto:
    """Other names for nodes, inner tensors and initializers, as torch up to 1.13 gives them."""
    kept = {value.name for value in (*model.graph.input, *model.graph.output)}
    names: Dict[str, str] = {tensor.name: f"onnx::Conv_{k}" for k, tensor in enumerate(model.graph.initializer)}
    for index, node in enumerate(model.graph.node):
        node.name = f"{node.op_type}_{index}"
        names.update({name: str(500 + index) for name in node.output if name not in kept})
    edits.rename(model, names)
    return model


@control(variant="raw-dynamic")
def control_renamed_reordered(model: onnx.ModelProto) -> onnx.ModelProto:
    """Nameless weights, and two parallel convolutions of one shape in the opposite order: only their content tells them apart."""
    first, second = edits.nodes(model, "Conv")[2:4]
    assert first.input[0] == second.input[0]
    place = list(model.graph.node).index(first)
    model.graph.node.remove(second)
    model.graph.node.insert(place, second)
    return control_renamed(model)


@control(variant="raw-dynamic")
def control_reordered(model: onnx.ModelProto) -> onnx.ModelProto:
    """The nodes in another order that is as good, every node as late as the outputs allow."""
    left = list(model.graph.node)
    ready = {"", *(value.name for value in model.graph.input), *(tensor.name for tensor in model.graph.initializer)}
    ordered: List[onnx.NodeProto] = []
    while left:
        node = next(node for node in reversed(left) if ready.issuperset(node.input))
        left.remove(node)
        ready.update(node.output)
        ordered.append(node)
    del model.graph.node[:]
    model.graph.node.extend(ordered)
    return model


@control(variant="raw-dynamic")
def control_resize(model: onnx.ModelProto) -> onnx.ModelProto:
    """Enlarging by pixel centres, rounded to the nearest with ties down: the same pixels at a factor of two."""
    for node in edits.nodes(model, "Resize"):
        edits.set_attribute(node, "coordinate_transformation_mode", "half_pixel")
        edits.set_attribute(node, "nearest_mode", "round_prefer_floor")
    return model


@control(variant="grid-dynamic")
def control_sigmoid(model: onnx.ModelProto) -> onnx.ModelProto:
    """The sigmoid written out as 1 / (1 + exp(-x))."""
    for node in edits.nodes(model, "Sigmoid"):
        edits.replace(model, node, lambda x, op: op("Reciprocal", op("Add", op("Exp", op("Neg", x)), 1.0)))
    return model


@control(variant="grid-dynamic")
def control_value_info(model: onnx.ModelProto) -> onnx.ModelProto:
    """The file declares the shapes of its inner values as well, as inference finds them."""
    return shape_inference.infer_shapes(model, data_prop=True)
