"""Small edits of an ONNX model. Nodes are found by operator and order, never by name: torch names them anew in every release."""

from __future__ import annotations

import json
from typing import Any, Callable, Dict, List, Optional, Tuple, Union

import numpy as np
import onnx
from onnx import helper, numpy_helper

Op = Callable[..., str]  # op(kind, *operands, **attributes) -> the name of what it makes
Build = Callable[[str, Op], str]
END = np.iinfo(np.int64).max


def nodes(model: onnx.ModelProto, kind: str) -> List[onnx.NodeProto]:
    """The nodes of one operator, in the order of the file."""
    return [node for node in model.graph.node if node.op_type == kind]


def counted(model: onnx.ModelProto) -> List[onnx.NodeProto]:
    """The nodes whose output is counted up to a grid: the ones."""
    sources = {node.input[0] for node in nodes(model, "CumSum")}
    return [node for node in model.graph.node if sources & set(node.output)]


def producer(model: onnx.ModelProto, tensor: str) -> Optional[onnx.NodeProto]:
    """The node that makes `tensor`; None for inputs and initializers."""
    return next((node for node in model.graph.node if tensor in node.output), None)


def attribute(node: onnx.NodeProto, name: str) -> onnx.AttributeProto:
    return next(item for item in node.attribute if item.name == name)


def set_attribute(node: onnx.NodeProto, name: str, value: object) -> None:
    """Write an attribute, whether it was there or not."""
    kept = [item for item in node.attribute if item.name != name]
    del node.attribute[:]
    node.attribute.extend([*kept, helper.make_attribute(name, value)])


def value_of(model: onnx.ModelProto, tensor: str) -> np.ndarray:
    """A copy of the constant of this name, be it an initializer or what a Constant node makes."""
    return np.array(numpy_helper.to_array(_proto(model, tensor)))


def set_value(model: onnx.ModelProto, tensor: str, value: np.ndarray) -> None:
    _proto(model, tensor).CopyFrom(numpy_helper.from_array(np.ascontiguousarray(value), tensor))


def _proto(model: onnx.ModelProto, tensor: str) -> onnx.TensorProto:
    for initializer in model.graph.initializer:
        if initializer.name == tensor:
            return initializer
    node = producer(model, tensor)
    assert node is not None and node.op_type == "Constant", tensor
    return attribute(node, "value").t


def weight(model: onnx.ModelProto, index: int) -> str:
    """The name of the weight of the convolution at `index`, in the order of the file."""
    return str(nodes(model, "Conv")[index].input[1])


def bias(model: onnx.ModelProto, index: int) -> str:
    return str(nodes(model, "Conv")[index].input[2])


def fresh(model: onnx.ModelProto, reserved: int = 0) -> str:
    """A name nothing has yet; reserved: how many were taken that are not in the model so far."""
    taken = {name for node in model.graph.node for name in (*node.input, *node.output)}
    taken.update(initializer.name for initializer in model.graph.initializer)
    number = reserved + sum(name.startswith("planted_") for name in taken)
    while f"planted_{number}" in taken:
        number += 1
    return f"planted_{number}"


def add_constant(model: onnx.ModelProto, value: Union[float, np.ndarray]) -> str:
    """Add an initializer and return its name; a float becomes a float32 scalar."""
    name = f"constant_{len(model.graph.initializer)}"
    array = value if isinstance(value, np.ndarray) else np.asarray(value, np.float32)
    model.graph.initializer.append(numpy_helper.from_array(array, name))
    return name


def splice(model: onnx.ModelProto, tensor: str, build: Build) -> str:
    """Put new nodes between `tensor` and all that read it; return the name of the result.

    build(x, op): makes nodes with `op(kind, *operands, **attributes)`, which takes names, floats and arrays as operands, and
    returns the name of the one that stands for `tensor` from now on.
    """
    maker = producer(model, tensor)
    source = tensor
    if maker is not None:
        source = fresh(model)
        maker.output[list(maker.output).index(tensor)] = source
    made, result = _build(model, source, build)
    if maker is not None:
        _insert(model, list(model.graph.node).index(maker) + 1, _renamed(made, result, tensor))
        return tensor
    for node in model.graph.node:
        _reread(node, tensor, result)
    _insert(model, 0, made)
    return result


def replace(model: onnx.ModelProto, node: onnx.NodeProto, build: Build) -> None:
    """Put new nodes in the place of one; build(x, op): x is what the node read first."""
    made, result = _build(model, node.input[0], build)
    place = list(model.graph.node).index(node)
    output = node.output[0]
    model.graph.node.remove(node)
    _insert(model, place, _renamed(made, result, output))


def _build(model: onnx.ModelProto, source: str, build: Build) -> Tuple[List[onnx.NodeProto], str]:
    made: List[onnx.NodeProto] = []

    def op(kind: str, *operands: Union[str, float, np.ndarray], **attributes: Any) -> str:
        names = [item if isinstance(item, str) else add_constant(model, item) for item in operands]
        output = fresh(model, len(made) + 1)
        made.append(helper.make_node(kind, names, [output], **attributes))
        return output

    result = build(source, op)
    return made, result


def _renamed(made: List[onnx.NodeProto], old: str, new: str) -> List[onnx.NodeProto]:
    for node in made:
        _reread(node, old, new)
        node.output[:] = [new if name == old else name for name in node.output]
    return made


def _reread(node: onnx.NodeProto, old: str, new: str) -> None:
    node.input[:] = [new if name == old else name for name in node.input]


def _insert(model: onnx.ModelProto, place: int, made: List[onnx.NodeProto]) -> None:
    for offset, node in enumerate(made):
        model.graph.node.insert(place + offset, node)


def cut(op: Op, x: str, start: int, stop: int, axis: int) -> str:
    """x[start:stop] along one axis."""
    return op("Slice", x, *(np.array([number], np.int64) for number in (start, stop, axis)))


def on_columns(model: onnx.ModelProto, tensor: str, start: int, stop: int, edit: Build) -> None:
    """Splice `edit` into the columns start to stop of the last axis of `tensor`."""

    def build(x: str, op: Op) -> str:
        parts = [cut(op, x, 0, start, -1)] if start else []
        parts.append(edit(cut(op, x, start, stop, -1), op))
        parts += [cut(op, x, stop, END, -1)] if stop < END else []
        return op("Concat", *parts, axis=-1)

    splice(model, tensor, build)


def prune(model: onnx.ModelProto) -> onnx.ModelProto:
    """Leave out nodes and initializers that reach no output, so that a plant is the only thing wrong; return the model."""
    alive = {value.name for value in model.graph.output}
    for node in reversed(list(model.graph.node)):
        if alive.isdisjoint(node.output):
            model.graph.node.remove(node)
        else:
            alive.update(node.input)
    for initializer in list(model.graph.initializer):
        if initializer.name not in alive:
            model.graph.initializer.remove(initializer)
    return model


def set_axis(value: onnx.ValueInfoProto, axis: int, dim: Union[int, str, None]) -> None:
    """Declare an axis: a number, a symbol, or nothing."""
    proto = value.type.tensor_type.shape.dim[axis]
    proto.Clear()
    if isinstance(dim, int):
        proto.dim_value = dim
    elif dim is not None:
        proto.dim_param = dim


def rename(model: onnx.ModelProto, names: Dict[str, str]) -> None:
    """Rename tensors wherever they stand in the main graph."""
    for node in model.graph.node:
        node.input[:] = [names.get(name, name) for name in node.input]
        node.output[:] = [names.get(name, name) for name in node.output]
    for part in (model.graph.initializer, model.graph.input, model.graph.output, model.graph.value_info):
        for item in part:
            item.name = names.get(item.name, item.name)


def metadata(model: onnx.ModelProto) -> Dict[str, str]:
    return {entry.key: entry.value for entry in model.metadata_props}


def fields(model: onnx.ModelProto) -> int:
    """Numbers per prediction: box, objectness and a score per class."""
    return 5 + len(json.loads(metadata(model)["names"]))


def set_metadata(model: onnx.ModelProto, **entries: str) -> None:
    """Write metadata entries over those that are there."""
    merged = {**metadata(model), **entries}
    del model.metadata_props[:]
    for key, value in merged.items():
        model.metadata_props.add(key=key, value=value)


def anchors(model: onnx.ModelProto) -> List[str]:
    """Names of the anchor tensors, level by level: what multiplies a square in the decode."""
    squares = [node.output[0] for node in nodes(model, "Pow")]
    return [str(node.input[1]) for node in nodes(model, "Mul") if node.input[0] in squares]


def another_network(model: onnx.ModelProto) -> None:
    """The graph of another network, with the same names: every output has one picture, three rows and four columns."""
    inputs, outputs = list(model.graph.input), [value.name for value in model.graph.output]
    shape = [dim.dim_value for dim in inputs[0].type.tensor_type.shape.dim]
    weight = numpy_helper.from_array(np.full((int(np.prod(shape[-2:])), 4), 0.1, np.float32), "w")
    nodes = [
        onnx.helper.make_node("Reshape", [inputs[0].name, "to"], ["rows"]),
        onnx.helper.make_node("MatMul", ["rows", "w"], ["four"]),
    ]
    nodes += [onnx.helper.make_node("Identity", ["four"], [name]) for name in outputs]
    to = numpy_helper.from_array(np.array([1, 3, int(np.prod(shape[-2:]))], np.int64), "to")
    values = [onnx.helper.make_tensor_value_info(name, onnx.TensorProto.FLOAT, [1, 3, 4]) for name in outputs]
    graph = onnx.helper.make_graph(nodes, "other", inputs, values, [weight, to])
    model.graph.CopyFrom(graph)
