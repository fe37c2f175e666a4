"""One change to an ONNX model: an attribute, an input, a type, a shape, an operator's name, a tensor, a version."""

from __future__ import annotations

import random
from typing import Any, Callable, Tuple

import onnx
from detparity.kit.tests.fuzz.cases import NUMBERS, TEXTS
from onnx import TensorProto, helper

OPERATORS = (
    *(
        "Add",
        "Cast",
        "Concat",
        "Constant",
        "ConstantOfShape",
        "Conv",
        "Einsum",
        "Expand",
        "Flatten",
        "Gather",
        "GatherND",
    ),
    *(
        "Gemm",
        "Identity",
        "If",
        "LayerNormalization",
        "Loop",
        "LSTM",
        "MatMul",
        "MaxPool",
        "NonMaxSuppression",
        "Pad",
        "Range",
    ),
    *(
        "Reshape",
        "Resize",
        "Scan",
        "ScatterND",
        "Shape",
        "Sigmoid",
        "Slice",
        "Split",
        "Squeeze",
        "Tile",
        "TopK",
        "Transpose",
    ),
    *("Unsqueeze", "Where", "FusedConv", "EfficientNMS_TRT", "QLinearConv", "DequantizeLinear", "StringNormalizer"),
)
SMALL = (0, 1, -1, 2, 3, 5, 64, 255, 1 << 31, -(1 << 31), (1 << 63) - 1, -(1 << 63))
FLOATS = (0.0, -0.0, 1.0, -1.0, 0.5, 1e30, 1e-30, float("inf"), float("nan"))
TYPES = tuple(range(24))


def change(rng: random.Random, model: onnx.ModelProto) -> None:
    rng.choice(CHANGES)(rng, model)


def _node(rng: random.Random, model: onnx.ModelProto) -> onnx.NodeProto:
    return rng.choice(model.graph.node)


def _values(model: onnx.ModelProto) -> Tuple[str, ...]:
    return tuple(name for node in model.graph.node for name in (*node.input, *node.output))


def _attribute(rng: random.Random, model: onnx.ModelProto) -> None:
    """A value changed, an attribute dropped, or one of another operator added."""
    having = [node for node in model.graph.node if node.attribute]
    node = rng.choice(having)
    attribute = rng.choice(node.attribute)
    kind = rng.randrange(6)
    if kind == 0:
        node.attribute.remove(attribute)
    elif kind == 1:
        node.attribute.append(rng.choice(rng.choice(having).attribute))
    elif kind == 2:
        attribute.type = rng.choice(range(15))
    elif kind == 3:
        attribute.name = rng.choice((*TEXTS[:3], "axis", "pads", "strides", "perm", "to", "batch_dims"))
    elif attribute.ints:
        at = rng.randrange(len(attribute.ints))
        attribute.ints[at] = rng.choice(SMALL)
        if kind == 4:
            attribute.ints.append(rng.choice(SMALL))
    elif attribute.type == onnx.AttributeProto.INT:
        attribute.i = rng.choice(SMALL)
    elif attribute.type == onnx.AttributeProto.FLOAT:
        attribute.f = rng.choice(FLOATS)
    elif attribute.type == onnx.AttributeProto.STRING:
        attribute.s = rng.choice((b"", b"\xff", b"SAME_UPPER", b"x" * 300))
    elif attribute.type == onnx.AttributeProto.TENSOR:
        _spoil(rng, attribute.t)


def _input(rng: random.Random, model: onnx.ModelProto) -> None:
    node, names = _node(rng, model), _values(model)
    which, at = (node.input, node.output)[rng.random() < 0.25], 0
    if len(which):
        at = rng.randrange(len(which))
    kind = rng.randrange(5)
    if kind == 0 and len(which):
        del which[at]
    elif kind == 1:
        which.append(rng.choice(names))
    elif kind == 2 and len(which) > 1:
        which[:] = [*reversed(which)]
    elif len(which):
        which[at] = rng.choice((rng.choice(names), rng.choice(names), "", "missing"))


def _infos(model: onnx.ModelProto) -> Any:
    graph = model.graph
    return [*graph.input, *graph.output, *list(graph.value_info)[:3]]


def _type(rng: random.Random, model: onnx.ModelProto) -> None:
    if rng.random() < 0.5:
        rng.choice(_infos(model)).type.tensor_type.elem_type = rng.choice(TYPES)
    else:
        rng.choice(model.graph.initializer).data_type = rng.choice(TYPES)


def _shape(rng: random.Random, model: onnx.ModelProto) -> None:
    shape = rng.choice(_infos(model)).type.tensor_type.shape
    kind = rng.randrange(4)
    if kind == 0:
        shape.dim.add().dim_value = rng.choice(SMALL)
    elif kind == 1 and shape.dim:
        del shape.dim[rng.randrange(len(shape.dim))]
    elif shape.dim:
        dim = rng.choice(shape.dim)
        if kind == 2:
            dim.dim_param = rng.choice(TEXTS).encode("ascii", "ignore").decode()
        else:
            dim.dim_value = rng.choice(SMALL)


def _spoil(rng: random.Random, tensor: TensorProto) -> None:
    """Dims, type or bytes of a tensor."""
    kind = rng.randrange(4)
    if kind == 0 and tensor.dims:
        tensor.dims[rng.randrange(len(tensor.dims))] = rng.choice(SMALL)
    elif kind == 1:
        tensor.dims.append(rng.choice((0, 1, 2, -1)))
    elif kind == 2:
        tensor.data_type = rng.choice(TYPES)
    elif tensor.raw_data:
        content = bytearray(tensor.raw_data)
        at = rng.randrange(len(content))
        content[at : at + 8] = int(rng.choice(NUMBERS)).to_bytes(8, "little", signed=True)
        tensor.raw_data = bytes(content)


def _initializer(rng: random.Random, model: onnx.ModelProto) -> None:
    tensors = [tensor for tensor in model.graph.initializer if len(tensor.raw_data) < 100 or rng.random() < 0.1]
    _spoil(rng, rng.choice(tensors or list(model.graph.initializer)))


def _name(rng: random.Random, model: onnx.ModelProto) -> None:
    node = _node(rng, model)
    kind = rng.randrange(4)
    if kind < 3:
        node.op_type = rng.choice((*OPERATORS, "Own"))
    if kind > 1:
        node.domain = rng.choice(("", "ai.onnx", "com.microsoft", "TRT", "ai.onnx.ml", "own"))


def _order(rng: random.Random, model: onnx.ModelProto) -> None:
    """A node removed, repeated or moved."""
    nodes = model.graph.node
    at = rng.randrange(len(nodes))
    node = onnx.NodeProto.FromString(nodes[at].SerializeToString())
    if rng.random() < 0.7:
        del nodes[at]
    if rng.random() < 0.7:
        nodes.insert(rng.randrange(len(nodes)), node)


def _version(rng: random.Random, model: onnx.ModelProto) -> None:
    kind = rng.randrange(4)
    if kind == 0:
        model.ir_version = rng.choice((0, 1, 3, 4, 9, 12, 99, 1 << 40))
    elif kind == 1:
        model.opset_import[0].version = rng.choice((0, 1, 7, 9, 13, 18, 25, 99, -1))
    elif kind == 2:
        model.opset_import.append(helper.make_opsetid(rng.choice(("", "own", "ai.onnx.ml")), rng.choice((1, 99))))
    else:
        entry = rng.choice(model.metadata_props) if model.metadata_props else model.metadata_props.add()
        entry.value = rng.choice(
            (
                '{"0": "a"}',
                "[]",
                "{",
                "9" * 5000,
                "[" * 5000,
                "1e999",
                "\x1b[2J",
                "64,64",
                entry.value[: len(entry.value) // 2],
            )
        )


def _interface(rng: random.Random, model: onnx.ModelProto) -> None:
    """An input or an output of the graph dropped, repeated, renamed or made of something else than a tensor."""
    infos = (model.graph.input, model.graph.output)[rng.random() < 0.5]
    if not infos:
        return
    kind, info = rng.randrange(4), rng.choice(infos)
    if kind == 0:
        infos.remove(info)
    elif kind == 1:
        infos.append(onnx.ValueInfoProto.FromString(info.SerializeToString()))
    elif kind == 2:
        info.name = rng.choice((*TEXTS[:3], rng.choice(_values(model)), "\x1b[2J"))
    else:
        info.type.CopyFrom(helper.make_sequence_type_proto(helper.make_tensor_type_proto(1, [1])))


Change = Callable[[random.Random, onnx.ModelProto], None]
CHANGES: Tuple[Change, ...] = (
    *(_attribute, _attribute, _input, _input, _type, _shape, _shape),
    *(_initializer, _initializer, _name, _name, _order, _version, _interface),
)
