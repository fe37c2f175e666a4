"""An ONNX model whose inner tensors are outputs, and whose nodes read some of them as they are given from outside."""

from __future__ import annotations

from collections import Counter
from pathlib import Path
from typing import Iterator, List, Mapping, Optional, Sequence, Tuple

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


def one_channel(content: bytes, at: Sequence[int]) -> Optional[Tuple[bytes, int, slice]]:
    """One convolution, or one product with constants, with one of its output channels: the model, the axis of its output, and which
    channels along axis 1 of its input are left. None where the model is anything else. at: of the output, a position."""
    model = onnx.load_from_string(content)
    constants = {one.name: one for one in model.graph.initializer}
    nodes = [node for node in model.graph.node if node.op_type != "Constant"]
    if len(nodes) != 1 or len(model.graph.node) != 1:
        return None
    (node,) = nodes
    names = [name for name in node.input[1:] if name]
    if not names or node.input[0] in constants or any(name not in constants for name in names):
        return None
    values = [onnx.numpy_helper.to_array(constants[name]) for name in names]
    left = slice(None)
    if node.op_type == "MatMul":
        axis, some = len(at) - 1, [values[0][..., at[-1] : at[-1] + 1]]
    elif node.op_type == "Conv":
        axis, some = 1, [value[at[1] : at[1] + 1] for value in values]
        left = _group(node, values[0], at[1])
    else:
        return None
    for name, value in zip(names, some):
        constants[name].CopyFrom(onnx.numpy_helper.from_array(np.ascontiguousarray(value), name))
    return bytes(model.SerializeToString()), axis, left


def _group(node: onnx.NodeProto, weight: np.ndarray, channel: int) -> slice:
    """Input channels that an output channel of a convolution reads; the convolution then has one group."""
    groups = next((one.i for one in node.attribute if one.name == "group"), 1)
    if groups == 1:
        return slice(None)
    group = channel // (len(weight) // groups)
    for one in node.attribute:
        one.i = 1 if one.name == "group" else one.i
    return slice(group * weight.shape[1], (group + 1) * weight.shape[1])


def weights_as_inputs(content: bytes) -> Tuple[bytes, List[np.ndarray]]:
    """The model with its floating constants of two axes and more as further inputs, and what they are to be given."""
    model = onnx.load_from_string(content)
    own = {value.name for value in model.graph.input}
    moved = [
        one
        for one in model.graph.initializer
        if len(one.dims) > 1 and one.name not in own and onnx.numpy_helper.to_array(one).dtype.kind == "f"
    ]
    for tensor in moved:
        model.graph.initializer.remove(tensor)
        model.graph.input.append(onnx.helper.make_tensor_value_info(tensor.name, tensor.data_type, None))
    return bytes(model.SerializeToString()), [onnx.numpy_helper.to_array(tensor) for tensor in moved]


def products(content: bytes) -> List[Tuple[int, int, int]]:
    """Products over channels of two inputs that nothing else reads, values and a weight: the numbers of both, and the axis of the
    weight that is summed over. Of convolutions those of one cell and one group."""
    graph = onnx.load_from_string(content).graph
    numbers = {value.name: number for number, value in enumerate(graph.input)}
    readers = Counter(name for node in graph.node for name in node.input)
    found = []
    for node in graph.node:
        if node.op_type in ("Conv", "MatMul") and len(node.input) > 1 and set(node.input[:2]) <= set(numbers):
            plain = all(set(_ints(one)) <= ({0} if one.name == "pads" else {1}) for one in node.attribute)
            if plain and readers[node.input[0]] == readers[node.input[1]] == 1:
                found.append((numbers[node.input[0]], numbers[node.input[1]], 1 if node.op_type == "Conv" else 0))
    return found


def _ints(attribute: onnx.AttributeProto) -> Sequence[int]:
    return attribute.ints or ([attribute.i] if attribute.type == attribute.INT else [])


def without_shapes(content: bytes) -> bytes:
    """The model with inputs of any shape, and nothing but what computes; nodes that hold a constant are constants of the graph."""
    model = onnx.load_from_string(content)
    for value in model.graph.input:
        value.type.tensor_type.ClearField("shape")
    for value in model.graph.output:
        value.type.tensor_type.ClearField("shape")
    del model.graph.value_info[:]
    for node in [one for one in model.graph.node if one.op_type == "Constant" and one.attribute[0].name == "value"]:
        tensor = model.graph.initializer.add()
        tensor.CopyFrom(node.attribute[0].t)
        tensor.name = node.output[0]
        model.graph.node.remove(node)
    for part in (model, model.graph, *model.graph.node):
        part.ClearField("doc_string")
        if "metadata_props" in part.DESCRIPTOR.fields_by_name:  # of a node since onnx 1.16
            part.ClearField("metadata_props")
    return bytes(model.SerializeToString())
