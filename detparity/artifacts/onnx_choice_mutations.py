"""Changes to what an ONNX file chooses by, and to what it quantises by, for mutants of it."""

from __future__ import annotations

import random
from typing import Callable, Optional, Sequence, Tuple

import numpy as np
import onnx
from onnx import helper, numpy_helper

from detparity.artifacts.onnx_interface_mutations import copied, element
from detparity.artifacts.onnx_mutations import Change, Changing, Node, title

DECIDING = ("NonMaxSuppression", "EfficientNMS_TRT", "TopK", "ArgMax")
FLOAT = onnx.TensorProto.FLOAT


# --- suppression and other choices


def _given(at: Changing, node: Node, index: int) -> Optional[np.ndarray]:
    name = node.input[index] if index < len(node.input) else ""
    return np.array(numpy_helper.to_array(at.constants[name])) if name in at.constants else None


def nms_number(index: int, attribute: str, what: str, changes: Sequence[Callable[[float], float]]) -> Change:
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
    if name in at.constants or element(at, name) != FLOAT:
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
    copies = [copied(one) for one in at.model.graph.node]
    del at.model.graph.node[:]
    at.model.graph.node.extend([*copies[:before], *nodes, *copies[before:]])
    return f"it reads {name!r} cut to sixteenths"


# --- quantisation


def linear(index: int, change: Callable[[np.ndarray, random.Random], Tuple[np.ndarray, str]]) -> Change:
    """The scale (operand 1) or the zero point (operand 2) of one QuantizeLinear or DequantizeLinear."""

    def changed(at: Changing, node: Node) -> Optional[str]:
        value = _given(at, node, index) if node.op_type in ("QuantizeLinear", "DequantizeLinear") else None
        if value is None or not value.size:
            return None
        after, about = change(value, at.rng)
        at.give(node, index, after)
        return about

    return changed


def scale_changed(value: np.ndarray, rng: random.Random) -> Tuple[np.ndarray, str]:
    factor, index = rng.choice((0.25, 0.5, 2.0, 4.0)), rng.randrange(value.size)
    after = value.copy()
    after.reshape(-1)[index] *= factor
    return after, f"scale {index} is multiplied by {factor:g}"


def zero_point_changed(value: np.ndarray, rng: random.Random) -> Tuple[np.ndarray, str]:
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
