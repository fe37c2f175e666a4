"""One change to an ONNX file at a time, drawn by seed, in groups: what changes one node (`onnx_mutations`), and what changes types,
inputs and outputs, suppression, metadata and quantisation.

Each kind is a function that changes a copy of the file and says where and how, or None where it has nothing to change.
"""

from __future__ import annotations

import ast
import json
import random
from dataclasses import dataclass
from typing import Any, Callable, Dict, Iterator, List, Mapping, Optional, Sequence, Set, Tuple

import numpy as np
import onnx
from onnx import TensorProto, helper, numpy_helper

from detparity.artifacts.onnx_graph import all_nodes
from detparity.artifacts.onnx_mutations import KINDS, Change, Changing, Node, title

Where = Tuple[str, str]  # of a change: the title of a node or a name, and a clause
FileChange = Callable[[Changing], Optional[Where]]
DECIDING = ("NonMaxSuppression", "EfficientNMS_TRT", "TopK", "ArgMax")
FLOAT, FLOAT16, BFLOAT16, INT32 = TensorProto.FLOAT, TensorProto.FLOAT16, TensorProto.BFLOAT16, TensorProto.INT32
TRIES = 8  # draws of a kind, before another one is drawn


@dataclass(frozen=True)
class Mutant:
    """number: in the order drawn; about: a clause about `where`; model: the file with that change."""

    number: int
    group: str
    kind: str
    where: str
    about: str
    model: onnx.ModelProto


def _at_a_node(change: Change) -> FileChange:
    """A change to any one node."""

    def changed(at: Changing) -> Optional[Where]:
        nodes = list(at.model.graph.node)
        at.rng.shuffle(nodes)
        for node in nodes:
            name = title(node)
            about = change(at, node)
            if about is not None:
                return name, about
        return None

    return changed


# --- types


def _passes_through(kind: int, back: int, about: str) -> Change:
    """What a node makes passes through another type."""

    def changed(at: Changing, node: Node) -> Optional[str]:
        if node.op_type in ("Constant", "Cast", "Shape", "ConstantOfShape") or len(node.output) != 1:
            return None
        name = node.output[0]
        if len(at.shapes.get(name, ())) < 3 or _element(at, name) != back:
            return None
        source, between = f"{name}_before", f"{name}_between"
        node.output[0] = source
        index = list(at.model.graph.node).index(node)
        casts = [
            helper.make_node("Cast", [source], [between], to=kind),
            helper.make_node("Cast", [between], [name], to=back),
        ]
        nodes = [*at.model.graph.node[: index + 1], *casts, *at.model.graph.node[index + 1 :]]
        copies = [_copied(one) for one in nodes]
        del at.model.graph.node[:]
        at.model.graph.node.extend(copies)
        return about

    return changed


def _copied(node: Node) -> Node:
    copy = onnx.NodeProto()
    copy.CopyFrom(node)
    return copy


def _element(at: Changing, name: str) -> int:
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


def _image_through(
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
        rest = [_copied(node) for node in at.model.graph.node]
        del at.model.graph.node[:]
        at.model.graph.node.extend([*nodes, *rest])
        return f"input {name!r}", about

    return changed


def _scaled(name: str, inner: str, rank: int) -> Tuple[List[Node], List[TensorProto]]:
    factor = numpy_helper.from_array(np.array(1 / 255, np.float32), "mutated_scale")
    return [helper.make_node("Mul", [name, "mutated_scale"], [inner])], [factor]


def _shifted(name: str, inner: str, rank: int) -> Tuple[List[Node], List[TensorProto]]:
    factor = numpy_helper.from_array(np.array(1 / 255, np.float32), "mutated_shift")
    return [helper.make_node("Add", [name, "mutated_shift"], [inner])], [factor]


def _reversed(axis_from_end: int) -> Callable[[str, str, int], Tuple[List[Node], List[TensorProto]]]:
    def build(name: str, inner: str, rank: int) -> Tuple[List[Node], List[TensorProto]]:
        values = {"starts": -1, "ends": np.iinfo(np.int64).min, "axes": rank - axis_from_end, "steps": -1}
        constants = [
            numpy_helper.from_array(np.array([one], np.int64), f"mutated_{key}") for key, one in values.items()
        ]
        return [helper.make_node("Slice", [name, *(one.name for one in constants)], [inner])], constants

    return build


# --- suppression and other choices


def _given(at: Changing, node: Node, index: int) -> Optional[np.ndarray]:
    name = node.input[index] if index < len(node.input) else ""
    return np.array(numpy_helper.to_array(at.constants[name])) if name in at.constants else None


def _nms_number(index: int, attribute: str, what: str, changes: Sequence[Callable[[float], float]]) -> Change:
    """A number of a suppression, which is an operand or, of TensorRT's plugin, an attribute."""

    def changed(at: Changing, node: Node) -> Optional[str]:
        change = at.rng.choice(list(changes))
        if node.op_type == "NonMaxSuppression":
            value = _given(at, node, index)
            if value is None or value.size != 1:
                return None
            after = np.full_like(value, change(float(value.ravel()[0])))
            if after.ravel()[0] == value.ravel()[0]:
                return None
            at.give(node, index, after)
            return f"{what} is {float(after.ravel()[0]):g}"
        if node.op_type != "EfficientNMS_TRT":
            return None
        for one in node.attribute:
            if one.name == attribute:
                after_value = change(float(helper.get_attribute_value(one)))
                if one.type == onnx.AttributeProto.INT:
                    one.i = int(after_value)
                else:
                    one.f = after_value
                return f"{what} is {after_value:g}"
        return None

    return changed


def nms_corners(at: Changing, node: Node) -> Optional[str]:
    if node.op_type != "NonMaxSuppression":
        return None
    return _flag(node, "center_point_box", 0)


def _flag(node: Node, name: str, default: int) -> str:
    found = next((one for one in node.attribute if one.name == name), None)
    value = 1 - (default if found is None else int(found.i))
    if found is None:
        node.attribute.append(helper.make_attribute(name, value))
    else:
        found.i = value
    return f"{name} is {value}"


def chosen_worst(at: Changing, node: Node) -> Optional[str]:
    """The least is chosen in place of the largest."""
    if node.op_type == "TopK":
        return _flag(node, "largest", 1)
    if node.op_type == "ArgMax":
        node.op_type = "ArgMin"
        return "ArgMax is ArgMin"
    return None


def chosen_fewer(at: Changing, node: Node) -> Optional[str]:
    value = _given(at, node, 1) if node.op_type == "TopK" else None
    if value is None or value.size != 1 or value.ravel()[0] < 2:
        return None
    at.give(node, 1, value - 1)
    return f"{int(value.ravel()[0]) - 1} are chosen"


def read_by_choice(at: Changing, node: Node) -> Optional[str]:
    """What a choice reads is cut to sixteenths."""
    if node.op_type not in DECIDING or node.op_type == "EfficientNMS_TRT":
        return None
    index = at.rng.randrange(2) if node.op_type == "NonMaxSuppression" else 0
    name = node.input[index]
    if name in at.constants or _element(at, name) != FLOAT:
        return None
    number = f"mutated_{len(at.model.graph.initializer)}"
    at.model.graph.initializer.append(numpy_helper.from_array(np.array(16, np.float32), number))
    before = list(at.model.graph.node).index(node)
    between = [f"{name}_{what}" for what in ("times", "cut", "other")]
    nodes = [
        helper.make_node("Mul", [name, number], between[:1]),
        helper.make_node("Floor", between[:1], between[1:2]),
        helper.make_node("Div", [between[1], number], between[2:]),
    ]
    node.input[index] = between[2]
    copies = [_copied(one) for one in at.model.graph.node]
    del at.model.graph.node[:]
    at.model.graph.node.extend([*copies[:before], *nodes, *copies[before:]])
    return f"it reads {name!r} cut to sixteenths"


# --- metadata


def opset(at: Changing) -> Optional[Where]:
    one = next((one for one in at.model.opset_import if not one.domain), None)
    if one is None:
        return None
    one.version += at.rng.choice((-1, 1))
    return "opset", f"it is {one.version}"


def _property(key: str, change: Callable[[Any, random.Random], Any]) -> FileChange:
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


def _names_exchanged(value: Any, rng: random.Random) -> Any:
    keys = list(value) if isinstance(value, dict) else list(range(len(value))) if isinstance(value, list) else []
    if len(keys) < 2:
        return None
    first = rng.randrange(len(keys) - 1)
    one, other = keys[first], keys[first + 1]
    value[one], value[other] = value[other], value[one]
    return value


def _name_lost(value: Any, rng: random.Random) -> Any:
    if not isinstance(value, (dict, list)) or len(value) < 2:
        return None
    value.pop(list(value)[-1] if isinstance(value, dict) else -1)
    return value


def _larger(value: Any, rng: random.Random) -> Any:
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
    return _property("imgsz", _larger)(at) if fixed else None


# --- quantisation


def _linear(index: int, change: Callable[[np.ndarray, random.Random], Tuple[np.ndarray, str]]) -> Change:
    """The scale (operand 1) or the zero point (operand 2) of one QuantizeLinear or DequantizeLinear."""

    def changed(at: Changing, node: Node) -> Optional[str]:
        value = _given(at, node, index) if node.op_type in ("QuantizeLinear", "DequantizeLinear") else None
        if value is None or not value.size:
            return None
        after, about = change(value, at.rng)
        at.give(node, index, after)
        return about

    return changed


def _scale(value: np.ndarray, rng: random.Random) -> Tuple[np.ndarray, str]:
    factor, index = rng.choice((0.25, 0.5, 2.0, 4.0)), rng.randrange(value.size)
    after = value.copy()
    after.reshape(-1)[index] *= factor
    return after, f"scale {index} is multiplied by {factor:g}"


def _zero_point(value: np.ndarray, rng: random.Random) -> Tuple[np.ndarray, str]:
    index, step = rng.randrange(value.size), rng.choice((16, 32))
    bounds = np.iinfo(value.dtype)
    after = value.copy()
    before = int(after.reshape(-1)[index])
    after.reshape(-1)[index] = before + step if before + step <= bounds.max else before - step
    return after, f"zero point {index} is {int(after.reshape(-1)[index])} where it was {before}"


def integer_weights(at: Changing, node: Node) -> Optional[str]:
    """Two channels of weights in 8 bits are exchanged, or one of them is lost."""
    value = _given(at, node, 0) if node.op_type == "DequantizeLinear" else None
    if value is None or value.ndim < 2 or len(value) < 2 or value.dtype.kind not in "iu":
        return None
    channel = at.rng.randrange(len(value))
    if at.rng.random() < 0.5:
        value[channel] = 0
        about = f"output channel {channel} has no weights"
    else:
        other = (channel + 1) % len(value)
        value[[channel, other]] = value[[other, channel]]
        about = f"output channels {channel} and {other} are exchanged"
    at.give(node, 0, value)
    return about


def another_scale(at: Changing, node: Node) -> Optional[str]:
    """A tensor is read by the scale and the zero point of another one."""
    value = _given(at, node, 1) if node.op_type == "DequantizeLinear" else None
    if value is None or value.size != 1 or node.input[0] in at.constants:
        return None
    others = [
        one
        for one in at.model.graph.node
        if one.op_type == "DequantizeLinear" and one.input[0] not in at.constants and one.input[1] != node.input[1]
    ]
    values = [(one, _given(at, one, 1)) for one in others]
    found = [one for one, scale in values if scale is not None and scale.size == 1 and scale != value]
    if not found:
        return None
    other = at.rng.choice(found)
    node.input[1:] = other.input[1:]
    return f"it is read by the scale of {title(other)}"


def _nodes(names: Sequence[str]) -> Dict[str, FileChange]:
    return {name: _at_a_node(KINDS[name]) for name in names}


GROUPS: Mapping[str, Mapping[str, FileChange]] = {
    "weights": _nodes([name for name in KINDS if "channel" in name or "weights" in name or "bias" in name]),
    "operators": _nodes(["another operator", "constant changed"]),
    "attributes": _nodes(["attribute changed"]),
    "wiring": _nodes(["operands in another order", "another tensor read", "term of a sum lost"]),
    "types": {
        "through float16": _at_a_node(_passes_through(FLOAT16, FLOAT, "what it makes is rounded to float16")),
        "through bfloat16": _at_a_node(_passes_through(BFLOAT16, FLOAT16, "what it makes is rounded to bfloat16")),
        "through integers": _at_a_node(_passes_through(INT32, FLOAT, "what it makes is cut to integers")),
    },
    "io": {
        "input renamed": input_renamed,
        "output renamed": output_renamed,
        "outputs exchanged": outputs_exchanged,
        "output lost": output_lost,
        "output added": output_added,
        "shape declared wrong": declared_shape,
        "type declared wrong": declared_type,
        "image scaled twice": _image_through("it is scaled by 1/255", _scaled),
        "image shifted": _image_through("1/255 is added to it", _shifted),
        "image BGR": _image_through("its channels are reversed", _reversed(3), channels=True),
        "image mirrored": _image_through("it is mirrored", _reversed(1), channels=True),
        "image upside down": _image_through("it is upside down", _reversed(2), channels=True),
    },
    "nms": {
        "overlap threshold": _at_a_node(
            _nms_number(3, "iou_threshold", "IoU threshold", [lambda x: x + 0.05, lambda x: x - 0.05])
        ),
        "score threshold": _at_a_node(
            _nms_number(4, "score_threshold", "score threshold", [lambda x: x + 0.05, lambda x: x / 2])
        ),
        "cap": _at_a_node(_nms_number(2, "max_output_boxes", "cap", [lambda x: x - 1, lambda x: x + 1])),
        "corners for centres": _at_a_node(nms_corners),
        "the worst chosen": _at_a_node(chosen_worst),
        "one fewer chosen": _at_a_node(chosen_fewer),
        "chosen by other numbers": _at_a_node(read_by_choice),
    },
    "metadata": {
        "opset": opset,
        "class names exchanged": _property("names", _names_exchanged),
        "class name lost": _property("names", _name_lost),
        "stride": _property("stride", _larger),
        "image size": image_size,
        "suppression": _property("detparity.nms", _larger),
    },
    "quantisation": {
        "scale": _at_a_node(_linear(1, _scale)),
        "zero point": _at_a_node(_linear(2, _zero_point)),
        "weights in 8 bits": _at_a_node(integer_weights),
        "scale of another tensor": _at_a_node(another_scale),
    },
}


def drawn(
    model: onnx.ModelProto, inferred: Optional[bytes], seed: int, groups: Sequence[str] = tuple(GROUPS)
) -> Iterator[Mutant]:
    """Mutants of a model, each another one, its groups in rotation, until there are no more of them. inferred: a serialised graph
    with the types and shapes of inner tensors, which some changes need. The same model, seed and groups give the same mutants."""
    seen: Set[Tuple[str, str, str]] = set()
    left, number = list(groups), 0
    declared = list(model.graph.value_info)
    model = _with_shapes(model, inferred)
    while left:
        group = left.pop(0)
        found = _one(model, random.Random(f"{seed} {number} {group}"), group, seen)
        if found is None:
            continue
        left.append(group)
        seen.add((found[0], *found[1]))
        del found[2].graph.value_info[:]
        found[2].graph.value_info.extend(declared)
        yield Mutant(number, group, found[0], *found[1], model=found[2])
        number += 1


def _with_shapes(model: onnx.ModelProto, inferred: Optional[bytes]) -> onnx.ModelProto:
    copy = onnx.ModelProto()
    copy.CopyFrom(model)
    if inferred is not None:
        known = {one.name for one in copy.graph.value_info}
        shaped = onnx.GraphProto.FromString(inferred)
        copy.graph.value_info.extend(one for one in shaped.value_info if one.name not in known)
    return copy


def _one(
    model: onnx.ModelProto, rng: random.Random, group: str, seen: Set[Tuple[str, str, str]]
) -> Optional[Tuple[str, Where, onnx.ModelProto]]:
    """A kind of a group, where it changed something, and the changed copy; None where there is nothing left to change."""
    kinds = list(GROUPS[group])
    rng.shuffle(kinds)
    for kind in kinds:
        for _ in range(TRIES):
            copy = onnx.ModelProto()
            copy.CopyFrom(model)
            found = GROUPS[group][kind](Changing(copy, rng))
            if found is None:
                break
            if (kind, *found) not in seen:
                _without_dead(copy, model)
                return kind, found, copy
    return None


def _without_dead(copy: onnx.ModelProto, model: onnx.ModelProto) -> None:
    """Take out what a change left without a reader, as a converter would; what had none before remains."""
    graph = copy.graph
    before = _unread(model)
    while True:
        unread = _unread(copy) - before
        nodes = [k for k, node in enumerate(graph.node) if node.output and set(filter(None, node.output)) <= unread]
        tensors = [k for k, tensor in enumerate(graph.initializer) if tensor.name in unread]
        for k in reversed(nodes):
            del graph.node[k]
        for k in reversed(tensors):
            del graph.initializer[k]
        if not nodes and not tensors:
            return


def _unread(model: onnx.ModelProto) -> Set[str]:
    """Tensors that no node and no output reads."""
    read = {value.name for value in model.graph.output}
    made = {tensor.name for tensor in model.graph.initializer}
    for node in all_nodes(model.graph.node):
        read.update(node.input)
        made.update(filter(None, node.output))
    return made - read
