"""An exported ONNX graph in half precision or in 8 bits, with what follows the last convolutions left in float32."""

from __future__ import annotations

import importlib
import tempfile
from pathlib import Path
from typing import Any, Dict, Iterable, Iterator, List, Mapping, Optional, Sequence, Set

import numpy as np
import onnx
from onnx import TensorProto, helper, numpy_helper

from detparity.core.errors import InputError

NUMBERS: Mapping[str, Sequence[int]] = {"Resize": (0,), "Upsample": (0,), "Pad": (0, 2), "Clip": (0, 1, 2)}
OBSERVING = ("_ReduceMin", "_ReduceMax")
PER_CHANNEL_OPSET = 13  # the first whose QuantizeLinear takes a scale for each channel


def to_half(model: onnx.ModelProto) -> onnx.ModelProto:
    """The network in float16: its image and weights are cast, its logits are cast back, and decode and suppression stay in float32.
    Inputs and outputs stay as they are."""
    graph = model.graph
    body = _up_to_convolutions(graph)
    image = graph.input[0].name
    features = {image}
    converted: Dict[str, str] = {}
    constants = {tensor.name: tensor for tensor in graph.initializer}
    constants.update({node.output[0]: _value(node) for node in graph.node if node.op_type == "Constant"})
    for node in graph.node:
        if node.name not in body or node.op_type == "Shape" or not features.intersection(node.input):
            continue
        features.update(node.output)
        for position in NUMBERS.get(node.op_type, range(len(node.input))):
            name = node.input[position] if position < len(node.input) else ""
            if name in constants and constants[name].data_type == TensorProto.FLOAT:
                node.input[position] = converted.setdefault(name, name + "_float16")
    graph.initializer.extend(_half(constants[name], new) for name, new in converted.items())
    _cast(graph, body, features, image)
    used = {name for node in graph.node for name in node.input} | {value.name for value in graph.output}
    for index in reversed([k for k, tensor in enumerate(graph.initializer) if tensor.name not in used]):
        del graph.initializer[index]
    unread = [k for k, node in enumerate(graph.node) if node.op_type == "Constant" and node.output[0] not in used]
    for index in reversed(unread):
        del graph.node[index]
    del graph.value_info[:]
    return model


def _value(node: onnx.NodeProto) -> onnx.TensorProto:
    return next((item.t for item in node.attribute if item.name == "value"), onnx.TensorProto())


def _half(tensor: onnx.TensorProto, name: str) -> onnx.TensorProto:
    return numpy_helper.from_array(numpy_helper.to_array(tensor).astype(np.float16), name)


def _up_to_convolutions(graph: onnx.GraphProto) -> Set[str]:
    """Names of the nodes that a convolution needs, itself included; every node gets a name."""
    for index, node in enumerate(graph.node):
        node.name = node.name or f"{node.op_type}_{index}"
    needed: Set[str] = set()
    found: Set[str] = set()
    for node in reversed(graph.node):
        if node.op_type == "Conv" or needed.intersection(node.output):
            needed.update(node.input)
            found.add(node.name)
    return found


def _cast(graph: onnx.GraphProto, body: Set[str], features: Set[str], image: str) -> None:
    """Cast the image for the network, and what the network gives for everything else."""
    nodes: List[onnx.NodeProto] = [helper.make_node("Cast", [image], [image + "_float16"], name=f"{image}/half", to=10)]
    back: Dict[str, str] = {}
    outputs = {value.name for value in graph.output}
    made = {name for node in graph.node if node.name in body for name in node.output} & features
    for node in graph.node:
        inside = node.name in body and bool(features.intersection(node.output))
        for position, name in enumerate(node.input):
            if inside and name == image:
                node.input[position] = image + "_float16"
            elif not inside and name in made and node.op_type != "Shape":
                node.input[position] = back.setdefault(name, name + "_float32")
    for node in graph.node:
        inside = node.name in body
        for position, name in enumerate(node.output):
            if inside and name in made & outputs:
                back[name + "_float16"] = name
                node.output[position] = name + "_float16"
        nodes.append(node)
        for name in node.output:
            if name in back:
                nodes.append(helper.make_node("Cast", [name], [back[name]], name=f"{name}/float32", to=1))
    copies = [onnx.NodeProto.FromString(node.SerializeToString()) for node in nodes]
    del graph.node[:]
    graph.node.extend(copies)


def to_int8(content: bytes, pictures: Iterable[np.ndarray]) -> bytes:
    """Static quantisation by onnxruntime.quantization, in pairs of QuantizeLinear and DequantizeLinear: weights int8, a scale for each
    channel, features uint8, calibrated on these (3, H, W) pictures. The last convolutions and all after them stay in float32.

    Weights use 7 of their bits: processors without VNNI add two products of uint8 by int8 in 16 bits, where those of 8 saturate.

    Raises InputError where the tool is not installed or refuses.
    """
    try:
        tool: Any = importlib.import_module("onnxruntime.quantization")
    except ImportError as error:
        raise InputError(f"--int8 needs onnxruntime.quantization, which cannot be imported: {error}") from None
    model = onnx.load_from_string(content)
    _up_to_convolutions(model.graph)
    for node in model.graph.node:
        if node.name.endswith(OBSERVING):  # as the tool calls the nodes that it adds to observe a tensor of that name
            node.name += "_"
    channels = next(item.version for item in model.opset_import if item.domain in ("", "ai.onnx")) >= PER_CHANNEL_OPSET
    with tempfile.TemporaryDirectory(prefix="detparity-int8-") as folder:
        source, target = Path(folder, "float.onnx"), Path(folder, "int8.onnx")
        onnx.save(model, str(source))
        tool.quantize_static(
            str(source),
            str(target),
            _Pictures(model.graph.input[0], pictures),
            quant_format=tool.QuantFormat.QDQ,
            per_channel=channels,
            reduce_range=True,
            activation_type=tool.QuantType.QUInt8,
            weight_type=tool.QuantType.QInt8,
            nodes_to_exclude=_in_float(model.graph),
        )
        made = onnx.load(str(target))
    made.metadata_props.extend(item for item in model.metadata_props if item not in made.metadata_props)
    used = {node.domain for node in made.graph.node} | {""}
    imports = [item for item in made.opset_import if item.domain in used]
    del made.opset_import[:]
    made.opset_import.extend(imports)
    made.producer_name, made.producer_version = model.producer_name, model.producer_version
    made.ir_version = model.ir_version
    onnx.checker.check_model(made, full_check=True)
    return bytes(made.SerializeToString())


def _in_float(graph: onnx.GraphProto) -> List[str]:
    """The last convolutions, those that no other one needs, and every node that none needs."""
    body = _up_to_convolutions(graph)
    needed = {name for node in graph.node if node.name in body for name in node.input}
    last = [node.name for node in graph.node if node.op_type == "Conv" and not needed.intersection(node.output)]
    return [node.name for node in graph.node if node.name not in body] + last


class _Pictures:
    """What the tool reads its calibration from, one picture at a time: a folder may hold more than fit in memory."""

    def __init__(self, value: onnx.ValueInfoProto, pictures: Iterable[np.ndarray]) -> None:
        first = value.type.tensor_type.shape.dim[0]
        batch = int(first.dim_value) if first.HasField("dim_value") else 1
        self._feeds: Iterator[Dict[str, np.ndarray]] = (
            {value.name: np.stack([one] * batch).astype(np.float32)} for one in pictures
        )

    def get_next(self) -> Optional[Dict[str, np.ndarray]]:
        return next(self._feeds, None)
