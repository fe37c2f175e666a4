"""One change to an ONNX model at a time, drawn by seed: what a defect of an exporter or a converter may do to one node.

Nodes are chosen by operator, never by name. Each kind is a function that changes one node of a model and says how, or None where it
has nothing to change there.
"""

from __future__ import annotations

import random
from dataclasses import dataclass
from typing import Any, Callable, Dict, List, Mapping, Optional, Tuple

import numpy as np
import onnx
from onnx import helper, numpy_helper

Node = onnx.NodeProto
WEIGHTED = ("Conv", "ConvTranspose", "Gemm", "MatMul")


@dataclass(frozen=True)
class Mutation:
    """kind: of the change; node: title of the node, as `onnx_graph.Node` has it; about: a clause."""

    kind: str
    node: str
    about: str


class Changing:
    """A model with its constants by name and what reads each tensor."""

    def __init__(self, model: onnx.ModelProto, rng: random.Random) -> None:
        self.model, self.rng = model, rng
        graph = model.graph
        self.constants: Dict[str, onnx.TensorProto] = {one.name: one for one in graph.initializer}
        for node in graph.node:
            if node.op_type == "Constant" and node.output:
                for attribute in node.attribute:
                    if attribute.name == "value":
                        self.constants[node.output[0]] = attribute.t
        inferred = [*graph.value_info, *graph.input, *graph.output]
        self.shapes = {one.name: _dims(one) for one in inferred}
        self.order = {name: number for number, node in enumerate(graph.node) for name in node.output}

    def constant(self, node: Node, index: int) -> Optional[np.ndarray]:
        """A floating-point operand that is a constant, as a copy."""
        name = node.input[index] if index < len(node.input) else ""
        if name not in self.constants:
            return None
        value = np.array(numpy_helper.to_array(self.constants[name]))
        return value if value.dtype.kind == "f" and value.size else None

    def give(self, node: Node, index: int, value: np.ndarray) -> None:
        """Give one node another constant; others that read the same are left as they are."""
        name = f"mutated_{len(self.model.graph.initializer)}"
        self.model.graph.initializer.append(numpy_helper.from_array(np.ascontiguousarray(value), name))
        node.input[index] = name


def title(node: Node) -> str:
    return node.name or (f"{node.op_type} making {node.output[0]!r}" if node.output else node.op_type)


def _dims(value: onnx.ValueInfoProto) -> Tuple[object, ...]:
    return tuple(dim.dim_param or dim.dim_value for dim in value.type.tensor_type.shape.dim)


Change = Callable[[Changing, Node], Optional[str]]


# --- weights


def _weight(change: Callable[[np.ndarray, int, random.Random], str]) -> Change:
    def changed(at: Changing, node: Node) -> Optional[str]:
        weight = at.constant(node, 1)
        if node.op_type not in WEIGHTED or weight is None or weight.ndim < 2:
            return None
        axis = weight.ndim - 1 if node.op_type == "MatMul" else 1 if node.op_type == "ConvTranspose" else 0
        moved = np.moveaxis(weight, axis, 0)
        if len(moved) < 2:
            return None
        about = change(moved, at.rng.randrange(len(moved)), at.rng)
        at.give(node, 1, weight)
        return about

    return changed


def _scaled(weight: np.ndarray, channel: int, rng: random.Random) -> str:
    factor = rng.choice((0.5, 0.9, 1.1, 1.5))
    weight[channel] *= factor
    return f"output channel {channel} is multiplied by {factor:g}"


def _zeroed(weight: np.ndarray, channel: int, rng: random.Random) -> str:
    weight[channel] = 0
    return f"output channel {channel} has no weights"


def _exchanged(weight: np.ndarray, channel: int, rng: random.Random) -> str:
    other = (channel + 1) % len(weight)
    weight[[channel, other]] = weight[[other, channel]]
    return f"output channels {channel} and {other} are exchanged"


def _of_inputs(weight: np.ndarray, channel: int, rng: random.Random) -> str:
    weight[:] = weight[:, ::-1].copy()
    return "input channels are reversed"


def _rounded(weight: np.ndarray, channel: int, rng: random.Random) -> str:
    weight[:] = weight.astype(np.float16)
    return "weights are rounded to float16"


def _noisy(weight: np.ndarray, channel: int, rng: random.Random) -> str:
    noise = np.random.default_rng(rng.randrange(1 << 30)).normal(size=weight.shape)
    weight += (0.02 * float(weight.std()) * noise).astype(weight.dtype)
    return "weights are of another epoch"


def bias(at: Changing, node: Node) -> Optional[str]:
    value = at.constant(node, 2)
    if node.op_type not in ("Conv", "ConvTranspose", "Gemm") or value is None:
        return None
    channel = at.rng.randrange(value.size)
    value.reshape(-1)[channel] += 0.1
    at.give(node, 2, value)
    return f"bias of channel {channel} is 0.1 more"


def bias_lost(at: Changing, node: Node) -> Optional[str]:
    value = at.constant(node, 2)
    if node.op_type not in ("Conv", "ConvTranspose", "Gemm") or value is None or not value.any():
        return None
    at.give(node, 2, np.zeros_like(value))
    return "it has no bias"


# --- constants, attributes, operators, wiring


def operand(at: Changing, node: Node) -> Optional[str]:
    """A constant operand of arithmetic is 1.1 times as large."""
    if node.op_type not in ("Add", "Sub", "Mul", "Div"):
        return None
    for index in (0, 1):
        value = at.constant(node, index)
        if value is not None and value.any():
            at.give(node, index, (value * value.dtype.type(1.1)).astype(value.dtype))
            return "its constant is 1.1 times as large"
    return None


def _set(node: Node, name: str, value: Any) -> None:
    others = [one for one in node.attribute if one.name != name]
    del node.attribute[:]
    node.attribute.extend([*others, helper.make_attribute(name, value)])


def _get(node: Node, name: str, default: Any) -> Any:
    found = next((one for one in node.attribute if one.name == name), None)
    return default if found is None else helper.get_attribute_value(found)


def attribute(at: Changing, node: Node) -> Optional[str]:
    """One attribute is another."""
    changed = ATTRIBUTES.get(node.op_type)
    return changed(node) if changed is not None else None


def _number(name: str, default: float, factor: float) -> Callable[[Node], Optional[str]]:
    def changed(node: Node) -> Optional[str]:
        value = float(_get(node, name, default)) * factor
        _set(node, name, value)
        return f"{name} is {value:g}"

    return changed


def _pads(node: Node) -> Optional[str]:
    pads = list(_get(node, "pads", ()))
    if len(pads) != 4 or not any(pads):
        return None
    pads[0], pads[2] = pads[0] - 1, pads[2] + 1
    if pads[0] < 0:
        return None
    _set(node, "pads", pads)
    return f"pads are {pads}"


def _resize(node: Node) -> Optional[str]:
    if _get(node, "mode", b"nearest") == b"nearest":
        _set(node, "nearest_mode", "ceil")
        return "nearest_mode is ceil"
    _set(node, "coordinate_transformation_mode", "asymmetric")
    return "coordinates are asymmetric"


def _swapped(node: Node, perm: List[int]) -> str:
    perm[-1], perm[-2] = perm[-2], perm[-1]
    _set(node, "perm", perm)
    return f"perm is {perm}"


def _axis(node: Node) -> Optional[str]:
    axis = int(_get(node, "axis", -1))
    other = 1 if axis in (-1, 2, 3) else 2
    _set(node, "axis", other)
    return f"axis is {other}"


ATTRIBUTES: Mapping[str, Callable[[Node], Optional[str]]] = {
    "LeakyRelu": _number("alpha", 0.01, 2.0),
    "BatchNormalization": _number("epsilon", 1e-5, 1000.0),
    "LayerNormalization": _number("epsilon", 1e-5, 1000.0),
    "InstanceNormalization": _number("epsilon", 1e-5, 1000.0),
    "HardSigmoid": _number("alpha", 0.2, 1.2),
    "Conv": _pads,
    "MaxPool": _pads,
    "AveragePool": _pads,
    "Resize": _resize,
    "Softmax": _axis,
}

OPERATORS: Mapping[str, Tuple[str, Mapping[str, Any]]] = {
    "Add": ("Sub", {}),
    "Mul": ("Add", {}),
    "Sub": ("Add", {}),
    "Div": ("Mul", {}),
    "Relu": ("LeakyRelu", {"alpha": 0.1}),
    "LeakyRelu": ("Relu", {}),
    "Sigmoid": ("HardSigmoid", {"alpha": 0.25}),
    "HardSwish": ("Relu", {}),
    "Tanh": ("Softsign", {}),
    "Erf": ("Tanh", {}),
    "Exp": ("Softplus", {}),
}


def operator(at: Changing, node: Node) -> Optional[str]:
    """Another operator, with what it reads."""
    if node.op_type == "MaxPool" and len(node.output) == 1:
        drop = ("storage_order", "dilations")
        left = [one for one in node.attribute if one.name not in drop]
        del node.attribute[:]
        node.attribute.extend(left)
        node.op_type = "AveragePool"
        return "MaxPool is AveragePool"
    if node.op_type not in OPERATORS:
        return None
    before, (after, attributes) = node.op_type, OPERATORS[node.op_type]
    del node.attribute[:]
    node.attribute.extend(helper.make_attribute(name, value) for name, value in attributes.items())
    node.op_type = after
    return f"{before} is {after}"


def order(at: Changing, node: Node) -> Optional[str]:
    """What it concatenates, or subtracts, is in another order."""
    if node.op_type not in ("Concat", "Sub", "Div") or len(node.input) < 2 or node.input[0] == node.input[1]:
        return None
    if node.op_type == "Concat" and any(name in at.constants for name in node.input):
        return None
    shapes = {at.shapes.get(name, name) for name in node.input}
    if node.op_type == "Concat" and len(shapes) > 1:
        return None
    node.input[:] = list(node.input)[::-1]
    return "what it reads is in another order"


def wiring(at: Changing, node: Node) -> Optional[str]:
    """It reads another tensor of the same shape."""
    own = at.shapes.get(node.input[0], ()) if node.input else ()
    first = min((at.order.get(name, 1 << 30) for name in node.output), default=0)
    others = [
        name
        for name, shape in at.shapes.items()
        if shape == own and len(own) == 4 and name != node.input[0] and at.order.get(name, 1 << 30) < first
    ]
    if not others:
        return None
    node.input[0] = at.rng.choice(others[-4:])
    return f"it reads {node.input[0]!r}"


def shortcut(at: Changing, node: Node) -> Optional[str]:
    """A sum has lost one of its terms."""
    if node.op_type != "Add" or len(node.input) != 2 or any(name in at.constants for name in node.input):
        return None
    if at.shapes.get(node.input[0], 0) != at.shapes.get(node.input[1], 1):
        return None
    lost = node.input.pop(at.rng.randrange(2))
    node.op_type = "Identity"
    return f"the sum has lost {lost!r}"


# Of weights in place, output channels first; the channel is drawn.
WEIGHTS: Mapping[str, Callable[[np.ndarray, int, random.Random], str]] = {
    "weights of one channel scaled": _scaled,
    "weights of one channel lost": _zeroed,
    "channels exchanged": _exchanged,
    "input channels reversed": _of_inputs,
    "weights rounded to float16": _rounded,
    "weights of another epoch": _noisy,
}
KINDS: Mapping[str, Change] = {
    **{kind: _weight(change) for kind, change in WEIGHTS.items()},
    "bias shifted": bias,
    "bias lost": bias_lost,
    "constant changed": operand,
    "attribute changed": attribute,
    "another operator": operator,
    "operands in another order": order,
    "another tensor read": wiring,
    "term of a sum lost": shortcut,
}


def mutated(
    model: onnx.ModelProto, seed: int, among: Optional[Callable[[Node], bool]] = None
) -> Tuple[bytes, Mutation]:
    """A model with one change, and which. among: nodes that may be changed. Kinds are drawn first, so that rare ones are not lost
    among weights; raises ValueError where nothing can be changed."""
    rng = random.Random(seed)
    kinds = list(KINDS)
    rng.shuffle(kinds)
    copy = onnx.ModelProto()
    copy.CopyFrom(model)
    nodes = [node for node in copy.graph.node if among is None or among(node)]
    at = Changing(copy, rng)
    for kind in kinds:
        rng.shuffle(nodes)
        for node in nodes:
            about = KINDS[kind](at, node)
            if about is not None:
                return bytes(copy.SerializeToString()), Mutation(kind, title(node), about)
    raise ValueError("there is nothing to change")
