"""An ONNX model made ready to be evaluated in another floating-point type: tensors, casts and types, in every subgraph and function.

Numbers that follow from shapes alone (`Shape`, arithmetic, then `Floor` or a cast to integers) are lengths, not data: the file's own
float32 decides them, so that ten cells by 0.7 are seven here as there. They are rounded to float32 before they become integers.
"""

from __future__ import annotations

import graphlib
from typing import Any, Iterator, List, Set

import numpy as np
import onnx
from onnx import AttributeProto, TensorProto, numpy_helper

OURS = "detparity"  # the domain of operators that no file has
AS_FLOAT32 = "AsFloat32"
PLUGIN = "EfficientNMS_TRT"
NARROW = (TensorProto.FLOAT16, TensorProto.BFLOAT16, TensorProto.FLOAT)
INTEGERS = (TensorProto.INT8, TensorProto.INT16, TensorProto.INT32, TensorProto.INT64, TensorProto.UINT8)
# Attributes whose value is a type.
TYPES = (
    "to",
    "dtype",
    "output_dtype",
    "output_datatype",
    "stash_type",
    "precision",
    "softmax_precision",
)


def type_of(kind: Any) -> int:
    return int(TensorProto.DOUBLE if kind == np.float64 else TensorProto.FLOAT)


def convert(proto: Any, kind: Any) -> Any:
    """Convert a model or a function, in place. kind: np.float64, or np.float32, which leaves a file's doubles as they are."""
    if isinstance(proto, onnx.ModelProto):
        _imports(proto)
        for function in proto.functions:
            _nodes(function.node, kind)
        _graph(proto.graph, kind)
        _lengths(proto.graph, set())
    else:
        _nodes(proto.node, kind)
    return proto


def _imports(model: onnx.ModelProto) -> None:
    """The default domain under one name, and ours."""
    for item in model.opset_import:
        if item.domain == "ai.onnx":
            item.domain = ""
    model.opset_import.append(onnx.helper.make_opsetid(OURS, 1))


def _graph(graph: onnx.GraphProto, kind: Any) -> None:
    for value in (*graph.input, *graph.output):
        _type(value.type, kind)
    del graph.value_info[:]
    for tensor in graph.initializer:
        _tensor(tensor, kind)
    for sparse in graph.sparse_initializer:
        _tensor(sparse.values, kind)
    _nodes(graph.node, kind)


def _nodes(nodes: Any, kind: Any) -> None:
    _sort(nodes)
    for node in nodes:
        if node.domain == "ai.onnx":
            node.domain = ""
        if node.op_type == PLUGIN:
            node.domain = OURS
        for attribute in node.attribute:
            _attribute(attribute, kind)


def _sort(nodes: Any) -> None:
    """Put the nodes of a graph in the order they are evaluated in, where they are in another: engines sort, the evaluator does not.
    Raises ValueError where they read each other."""
    makers = {name: index for index, node in enumerate(nodes) for name in node.output if name}
    needs = {
        index: {makers[name] for name in (*node.input, *outer_names(node)) if name in makers} - {index}
        for index, node in enumerate(nodes)
    }
    if all(before < index for index, found in needs.items() for before in found):
        return
    try:
        order = list(graphlib.TopologicalSorter(needs).static_order())
    except graphlib.CycleError as error:
        titles = [nodes[index].name or nodes[index].op_type for index in error.args[1]]
        raise ValueError(f"its nodes read each other: {', '.join(titles[:4])}") from None
    ordered = onnx.GraphProto(node=[nodes[index] for index in order])
    del nodes[:]
    nodes.extend(ordered.node)


def _attribute(attribute: AttributeProto, kind: Any) -> None:
    if attribute.name in TYPES and attribute.type == AttributeProto.INT and attribute.i in NARROW:
        attribute.i = type_of(kind)
    for tensor in (*attribute.tensors, *([attribute.t] if attribute.HasField("t") else [])):
        _tensor(tensor, kind)
    if attribute.HasField("sparse_tensor"):
        _tensor(attribute.sparse_tensor.values, kind)
    if attribute.HasField("tp"):
        _type(attribute.tp, kind)
    for graph in subgraphs_of(attribute):
        _graph(graph, kind)


def _type(value: onnx.TypeProto, kind: Any) -> None:
    if value.HasField("tensor_type") and value.tensor_type.elem_type in NARROW:
        value.tensor_type.elem_type = type_of(kind)
    if value.HasField("sequence_type"):
        _type(value.sequence_type.elem_type, kind)
    if value.HasField("optional_type"):
        _type(value.optional_type.elem_type, kind)


def _tensor(tensor: TensorProto, kind: Any) -> None:
    if tensor.data_type in NARROW and tensor.data_type != type_of(kind):
        tensor.CopyFrom(numpy_helper.from_array(numpy_helper.to_array(tensor).astype(kind), tensor.name))


def subgraphs_of(attribute: AttributeProto) -> List[onnx.GraphProto]:
    return [*([attribute.g] if attribute.HasField("g") else []), *attribute.graphs]


def outer_names(node: onnx.NodeProto) -> Iterator[str]:
    """Names that the subgraphs of a node use, theirs or those around them."""
    for attribute in node.attribute:
        for graph in subgraphs_of(attribute):
            yield from (value.name for value in graph.output)
            for inner in graph.node:
                yield from inner.input
                yield from outer_names(inner)


def _lengths(graph: onnx.GraphProto, outer: Set[str]) -> None:
    """Insert the rounding before numbers that follow from shapes become integers. outer: such numbers of the graphs around."""
    known = outer | {tensor.name for tensor in graph.initializer}
    nodes: List[onnx.NodeProto] = []
    for node in graph.node:
        inner = [part for attribute in node.attribute for part in subgraphs_of(attribute)]
        for part in inner:
            _lengths(part, known)
        if node.op_type in ("Shape", "Size"):
            known.update(node.output)
        elif not inner and all(name in known for name in node.input if name):
            known.update(node.output)
            if _to_integers(node):
                rounded = f"{node.input[0]} as float32 for {node.output[0]}"
                nodes.append(onnx.helper.make_node(AS_FLOAT32, [node.input[0]], [rounded], domain=OURS))
                node.input[0] = rounded
        nodes.append(node)
    if len(nodes) != len(graph.node):
        copies = [onnx.NodeProto.FromString(node.SerializeToString()) for node in nodes]
        del graph.node[:]
        graph.node.extend(copies)


def _to_integers(node: onnx.NodeProto) -> bool:
    if node.op_type == "Cast":
        return any(attribute.name == "to" and attribute.i in INTEGERS for attribute in node.attribute)
    return node.domain == "" and node.op_type in ("Floor", "Ceil", "Round") and len(node.input) == 1
