"""An ONNX model whose inner tensors are outputs, and whose nodes read some of them as they are given from outside."""

from __future__ import annotations

from pathlib import Path
from typing import Iterator, Mapping, Optional, Sequence, Tuple

import numpy as np
import onnx

from detparity.artifacts.onnx_edit import prune

GIVEN = "given "  # before the name of a tensor, as the input that its readers have in its place


def fed(source: Path, given: Mapping[str, np.dtype], shown: Sequence[str]) -> bytes:
    """The model in which whatever reads a tensor of `given` reads an input `GIVEN name` of that type. Its outputs are `shown`,
    which show what its own nodes make."""
    model = onnx.load(str(source))
    graph = model.graph
    _reread(graph, {name: GIVEN + name for name in given})
    for name, dtype in given.items():
        kind = onnx.helper.np_dtype_to_tensor_dtype(np.dtype(dtype))
        graph.input.append(onnx.helper.make_tensor_value_info(GIVEN + name, kind, None))
    del graph.output[:]
    graph.output.extend(onnx.ValueInfoProto(name=name) for name in shown)
    prune(model)
    left = {name for node in graph.node for name in (*node.input, *_read_inside(node))}
    inputs = [value for value in graph.input if value.name in left]
    del graph.input[:]
    graph.input.extend(inputs)
    return bytes(model.SerializeToString())


def _read_inside(node: onnx.NodeProto) -> Iterator[str]:
    """What the subgraphs of a node read."""
    for attribute in node.attribute:
        for graph in (attribute.g, *attribute.graphs):
            for inner in graph.node:
                yield from (*inner.input, *_read_inside(inner))


def _reread(graph: onnx.GraphProto, names: Mapping[str, str]) -> None:
    for node in graph.node:
        node.input[:] = [names.get(name, name) for name in node.input]
        for attribute in node.attribute:
            for inner in (attribute.g, *attribute.graphs):
                _reread(inner, names)


def weights_of(content: bytes) -> Optional[Tuple[np.ndarray, Optional[np.ndarray]]]:
    """Weight and bias of a model that is one convolution with constants; None where it is anything else."""
    model = onnx.load_from_string(content)
    constants = {one.name: one for one in model.graph.initializer}
    nodes = [node for node in model.graph.node if node.op_type != "Constant"]
    if (
        len(nodes) != 1
        or nodes[0].op_type != "Conv"
        or any(name not in constants for name in nodes[0].input[1:] if name)
    ):
        return None
    values = [onnx.numpy_helper.to_array(constants[name]) for name in nodes[0].input[1:] if name]
    return values[0], values[1] if len(values) > 1 else None


def with_weights(content: bytes, weight: np.ndarray, bias: np.ndarray) -> bytes:
    """The same convolution with others, in its own precision."""
    model = onnx.load_from_string(content)
    (node,) = (node for node in model.graph.node if node.op_type == "Conv")
    constants = {one.name: one for one in model.graph.initializer}
    kind = onnx.numpy_helper.to_array(constants[node.input[1]]).dtype
    del node.input[1:]
    for name, value in (("the model's weight", weight), ("the model's bias", bias)):
        node.input.append(name)
        model.graph.initializer.append(onnx.numpy_helper.from_array(np.ascontiguousarray(value, kind), name))
    return bytes(model.SerializeToString())


def one_channel(content: bytes, channel: int) -> Optional[bytes]:
    """One convolution with one of its output channels; None where the model is anything else."""
    model = onnx.load_from_string(content)
    constants = {one.name: one for one in model.graph.initializer}
    if len(model.graph.node) != 1 or model.graph.node[0].op_type != "Conv":
        return None
    node = model.graph.node[0]
    groups = next((one.i for one in node.attribute if one.name == "group"), 1)
    if groups != 1 or any(name not in constants for name in node.input[1:]):
        return None
    for name in node.input[1:]:
        value = onnx.numpy_helper.to_array(constants[name])[channel : channel + 1]
        constants[name].CopyFrom(onnx.numpy_helper.from_array(np.ascontiguousarray(value), name))
    return bytes(model.SerializeToString())


def without_shapes(content: bytes) -> bytes:
    """The model with inputs of any shape."""
    model = onnx.load_from_string(content)
    for value in model.graph.input:
        value.type.tensor_type.ClearField("shape")
    return bytes(model.SerializeToString())
