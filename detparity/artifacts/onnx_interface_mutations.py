"""Changes to the types, the inputs and outputs, and the metadata of an ONNX file, for mutants of it."""

from __future__ import annotations

import ast
import json
import random
from typing import Any, Callable, List, Optional, Tuple

import numpy as np
import onnx
from onnx import TensorProto, helper, numpy_helper

from detparity.artifacts.onnx_mutations import Change, Changing, Node

Where = Tuple[str, str]  # of a change: the title of a node or a name, and a clause
FileChange = Callable[[Changing], Optional[Where]]


# --- types


def passes_through(kind: int, back: int, about: str) -> Change:
    """What a node makes passes through another type."""

    def changed(at: Changing, node: Node) -> Optional[str]:
        if node.op_type in ("Constant", "Cast", "Shape", "ConstantOfShape") or len(node.output) != 1:
            return None
        name = node.output[0]
        if len(at.shapes.get(name, ())) < 3 or element(at, name) != back:
            return None
        source, between = f"{name}_before", f"{name}_between"
        node.output[0] = source
        index = list(at.model.graph.node).index(node)
        casts = [
            helper.make_node("Cast", [source], [between], to=kind),
            helper.make_node("Cast", [between], [name], to=back),
        ]
        nodes = [*at.model.graph.node[: index + 1], *casts, *at.model.graph.node[index + 1 :]]
        copies = [copied(one) for one in nodes]
        del at.model.graph.node[:]
        at.model.graph.node.extend(copies)
        return about

    return changed


def copied(node: Node) -> Node:
    copy = onnx.NodeProto()
    copy.CopyFrom(node)
    return copy


def element(at: Changing, name: str) -> int:
    values = (*at.model.graph.value_info, *at.model.graph.output)
    return next((one.type.tensor_type.elem_type for one in values if one.name == name), 0)


# --- inputs and outputs


def _images(at: Changing) -> List[onnx.ValueInfoProto]:
    known = {one.name for one in at.model.graph.initializer}
    return [one for one in at.model.graph.input if one.name not in known]


def _renamed(at: Changing, old: str, new: str) -> None:
    for node in at.model.graph.node:
        node.input[:] = [new if name == old else name for name in node.input]
        node.output[:] = [new if name == old else name for name in node.output]


def input_renamed(at: Changing) -> Optional[Where]:
    value = at.rng.choice(_images(at))
    old = value.name
    _renamed(at, old, f"{old}_0")
    value.name = f"{old}_0"
    return f"input {old!r}", f"it is called {value.name!r}"


def output_renamed(at: Changing) -> Optional[Where]:
    value = at.rng.choice(at.model.graph.output)
    old = value.name
    _renamed(at, old, f"{old}_0")
    value.name = f"{old}_0"
    return f"output {old!r}", f"it is called {value.name!r}"


def outputs_exchanged(at: Changing) -> Optional[Where]:
    outputs = list(at.model.graph.output)
    if len(outputs) < 2:
        return None
    first = at.rng.randrange(len(outputs) - 1)
    outputs[first], outputs[first + 1] = outputs[first + 1], outputs[first]
    copies = [onnx.ValueInfoProto.FromString(one.SerializeToString()) for one in outputs]
    del at.model.graph.output[:]
    at.model.graph.output.extend(copies)
    return f"output {copies[first].name!r}", f"it comes before {copies[first + 1].name!r}"


def output_lost(at: Changing) -> Optional[Where]:
    if len(at.model.graph.output) < 2:
        return None
    index = at.rng.randrange(len(at.model.graph.output))
    name = at.model.graph.output[index].name
    del at.model.graph.output[index]
    return f"output {name!r}", "it is left out"


def output_added(at: Changing) -> Optional[Where]:
    names = {one.name for one in at.model.graph.output}
    inner = [one for one in at.model.graph.value_info if one.name in at.order and one.name not in names]
    if not inner:
        return None
    value = at.rng.choice(inner)
    at.model.graph.output.add().CopyFrom(value)
    return f"output {value.name!r}", "an inner tensor is an output"


def declared_shape(at: Changing) -> Optional[Where]:
    """An input or an output declares another number than it has, or a number where it varies."""
    value = at.rng.choice([*_images(at), *at.model.graph.output])
    dims = value.type.tensor_type.shape.dim
    if not dims:
        return None
    axis = at.rng.randrange(len(dims))
    before = dims[axis].dim_param or dims[axis].dim_value
    after = 1 if dims[axis].dim_param else int(dims[axis].dim_value) + 1
    dims[axis].dim_value = after
    return f"{value.name!r}", f"its axis {axis} is declared {after} where it is {before}"


def declared_type(at: Changing) -> Optional[Where]:
    value = at.rng.choice([*_images(at), *at.model.graph.output])
    kind = value.type.tensor_type.elem_type
    other = TensorProto.FLOAT16 if kind == TensorProto.FLOAT else TensorProto.FLOAT
    value.type.tensor_type.elem_type = other
    return f"{value.name!r}", f"its type is declared {TensorProto.DataType.Name(other)}"


def image_through(
    about: str, build: Callable[[str, str, int], Tuple[List[Node], List[TensorProto]]], channels: bool = False
) -> FileChange:
    """Something is done to the image before the network."""

    def changed(at: Changing) -> Optional[Where]:
        value = next((one for one in _images(at) if len(at.shapes[one.name]) in (3, 4)), None)
        if value is None or value.type.tensor_type.elem_type not in (TensorProto.FLOAT, TensorProto.FLOAT16):
            return None
        shape = at.shapes[value.name]
        if channels and shape[len(shape) - 3] != 3:
            return None
        name, inner = value.name, f"{value.name}_inner"
        for node in at.model.graph.node:
            node.input[:] = [inner if one == name and node.op_type != "Shape" else one for one in node.input]
        nodes, constants = build(name, inner, len(shape))
        for tensor in constants:
            if tensor.data_type == TensorProto.FLOAT and value.type.tensor_type.elem_type == TensorProto.FLOAT16:
                half = numpy_helper.to_array(tensor).astype(np.float16)
                tensor.CopyFrom(numpy_helper.from_array(half, tensor.name))
        at.model.graph.initializer.extend(constants)
        rest = [copied(node) for node in at.model.graph.node]
        del at.model.graph.node[:]
        at.model.graph.node.extend([*nodes, *rest])
        return f"input {name!r}", about

    return changed


def scaled(name: str, inner: str, rank: int) -> Tuple[List[Node], List[TensorProto]]:
    factor = numpy_helper.from_array(np.array(1 / 255, np.float32), "mutated_scale")
    return [helper.make_node("Mul", [name, "mutated_scale"], [inner])], [factor]


def shifted(name: str, inner: str, rank: int) -> Tuple[List[Node], List[TensorProto]]:
    factor = numpy_helper.from_array(np.array(1 / 255, np.float32), "mutated_shift")
    return [helper.make_node("Add", [name, "mutated_shift"], [inner])], [factor]


def backwards(axis_from_end: int) -> Callable[[str, str, int], Tuple[List[Node], List[TensorProto]]]:
    def build(name: str, inner: str, rank: int) -> Tuple[List[Node], List[TensorProto]]:
        values = {"starts": -1, "ends": np.iinfo(np.int64).min, "axes": rank - axis_from_end, "steps": -1}
        constants = [
            numpy_helper.from_array(np.array([one], np.int64), f"mutated_{key}") for key, one in values.items()
        ]
        return [helper.make_node("Slice", [name, *(one.name for one in constants)], [inner])], constants

    return build


# --- metadata


def opset(at: Changing) -> Optional[Where]:
    one = next((one for one in at.model.opset_import if not one.domain), None)
    if one is None:
        return None
    one.version += at.rng.choice((-1, 1))
    return "opset", f"it is {one.version}"


def entry_changed(key: str, change: Callable[[Any, random.Random], Any]) -> FileChange:
    """One entry of the metadata, which is JSON or a Python literal, holds something else."""

    def changed(at: Changing) -> Optional[Where]:
        entry = next((one for one in at.model.metadata_props if one.key == key), None)
        value = _parsed(entry.value) if entry is not None else None
        after = change(value, at.rng) if value is not None else None
        if entry is None or after is None:
            return None
        written = str(after) if "'" in entry.value else json.dumps(after)
        entry.value = written
        return f"metadata {key!r}", f"it is {written[:60]}"

    return changed


def _parsed(text: str) -> Any:
    for parse in (json.loads, ast.literal_eval):
        try:
            return parse(text)
        except (ValueError, SyntaxError):
            continue
    return None


def names_exchanged(value: Any, rng: random.Random) -> Any:
    keys = list(value) if isinstance(value, dict) else list(range(len(value))) if isinstance(value, list) else []
    if len(keys) < 2:
        return None
    first = rng.randrange(len(keys) - 1)
    one, other = keys[first], keys[first + 1]
    value[one], value[other] = value[other], value[one]
    return value


def name_lost(value: Any, rng: random.Random) -> Any:
    if not isinstance(value, (dict, list)) or len(value) < 2:
        return None
    value.pop(list(value)[-1] if isinstance(value, dict) else -1)
    return value


def larger(value: Any, rng: random.Random) -> Any:
    """A number, or one of several, is twice what it was."""
    if isinstance(value, list) and value:
        index = rng.randrange(len(value))
        return [2 * one if k == index else one for k, one in enumerate(value)]
    if isinstance(value, dict) and value:
        key = rng.choice([key for key, one in value.items() if isinstance(one, (int, float)) and one] or [""])
        return {**value, key: value[key] * 2} if key else None
    return value * 2 if isinstance(value, (int, float)) else None


def image_size(at: Changing) -> Optional[Where]:
    """Another size of image, where the file takes one alone."""
    fixed = all(isinstance(dim, int) and dim for one in _images(at) for dim in at.shapes[one.name])
    return entry_changed("imgsz", larger)(at) if fixed else None
