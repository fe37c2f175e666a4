"""One change to a TorchScript program, drawn by seed: to the weights of a module, or to one operator of its graph."""

from __future__ import annotations

import random
from dataclasses import dataclass
from typing import Any, Callable, List, Mapping, Optional, Sequence, Tuple

import torch

from detparity.artifacts.onnx_mutations import WEIGHTS
from detparity.checks.locating.program import Part
from detparity.engines.torchscript_steps import Line, operators, plain

Entry = Tuple[Line, Any]
Change = Callable[[Any, random.Random], Optional[str]]
OTHER = {
    "sigmoid": "hardsigmoid",
    "silu": "hardswish",
    "silu_": "hardswish_",
    "hardswish": "silu",
    "hardswish_": "silu_",
    "hardsigmoid": "sigmoid",
    "relu": "silu",
    "relu_": "silu_",
    "tanh": "sigmoid",
    "mish": "silu",
    "add": "sub",
    "sub": "add",
}


@dataclass(frozen=True)
class Fault:
    """kind and about: as in `onnx_mutations`; operator: its name; module: its path; before: how many of the same name and module
    come before it."""

    kind: str
    about: str
    operator: str
    module: str
    before: int

    @property
    def node(self) -> str:
        return f"{self.operator} {self.before} of {self.module}"

    def is_part(self, part: Part, parts: Sequence[Part]) -> bool:
        """Whether a part of a program is what was changed."""
        same = [one for one in parts if plain(one.operator) == plain(self.operator) and module_of(one) == self.module]
        firsts = [one for k, one in enumerate(same) if not k or one.reads != same[k - 1].reads]
        return self.before < len(firsts) and part.reads == firsts[self.before].reads and part in same


def module_of(part: Part) -> str:
    """The module in the title of a part."""
    _, _, rest = part.title.partition(" of ")
    return rest.partition(",")[0]


def planted(program: Any, seed: int) -> Fault:
    """Change a loaded program. Kinds are drawn first, as for ONNX. Raises ValueError where nothing can be changed."""
    rng = random.Random(seed)
    kinds = [*WEIGHTS, "bias shifted", "bias lost", *GRAPH]
    rng.shuffle(kinds)
    for kind in kinds:
        entries = list(operators(program))
        order = list(range(len(entries)))
        rng.shuffle(order)
        for index in order:
            about = _changed(program, kind, entries[index], rng)
            if about is not None:
                lines = [line for line, _ in operators(program)]
                name, module, _ = lines[index]
                before = sum(plain(one) == plain(name) and path == module for one, path, _ in lines[:index])
                return Fault(kind, about, name, module, before)
    raise ValueError("there is nothing to change")


def _changed(program: Any, kind: str, entry: Entry, rng: random.Random) -> Optional[str]:
    (name, path, _), node = entry
    if kind in GRAPH:
        return GRAPH[kind](node, rng)
    if plain(name) not in ("convolution", "mm") or not path:
        return None
    own = dict(program.named_parameters())
    weight, bias = own.get(f"{path}.weight"), own.get(f"{path}.bias")
    with torch.no_grad():
        if kind.startswith("bias"):
            return _bias(kind, bias, rng)
        if weight is None or weight.dim() < 2 or len(weight) < 2:
            return None
        values = weight.numpy().copy()
        about = WEIGHTS[kind](values, rng.randrange(len(values)), rng)
        weight.copy_(torch.from_numpy(values))
    return about


def _bias(kind: str, bias: Optional[torch.Tensor], rng: random.Random) -> Optional[str]:
    if bias is None or not bias.any():
        return None
    if kind == "bias lost":
        bias.zero_()
        return "it has no bias"
    channel = rng.randrange(len(bias))
    bias[channel] += 0.1
    return f"bias of channel {channel} is 0.1 more"


# --- one operator of a graph


def _constant(node: Any, index: int, value: Any) -> None:
    made = _node(node, "prim::Constant", [])
    _set(made, value)
    node.replaceInput(index, made.output())


def _node(before: Any, kind: str, inputs: List[Any]) -> Any:
    """A new node before another."""
    made = before.owningBlock().addNode(kind, inputs)
    made.moveBefore(before)
    return made


def _set(made: Any, value: Any) -> None:
    if isinstance(value, float):
        made.f_("value", value)
        made.output().setType(torch._C.FloatType.get())
    else:
        made.i_("value", int(value))
        made.output().setType(torch._C.BoolType.get() if isinstance(value, bool) else torch._C.IntType.get())


def attribute(node: Any, rng: random.Random) -> Optional[str]:
    name, inputs = node.kind()[6:], list(node.inputs())
    index, factor = {"leaky_relu": (1, 2.0), "leaky_relu_": (1, 2.0), "batch_norm": (7, 1000.0)}.get(name, (0, 0.0))
    if name == "avg_pool2d":
        _constant(node, 5, not inputs[5].toIValue())
        return "padding is counted otherwise"
    if not factor:
        return None
    value = float(inputs[index].toIValue()) * factor
    _constant(node, index, value)
    return f"its number is {value:g}"


def operand(node: Any, rng: random.Random) -> Optional[str]:
    inputs = list(node.inputs())
    if plain(node.kind()[6:]) not in ("mul", "add", "sub", "div") or len(inputs) < 2:
        return None
    value = inputs[1].toIValue()
    if isinstance(value, torch.Tensor) and value.is_floating_point() and value.dim() == 0:
        value = float(value)
    if not isinstance(value, float) or not value:
        return None
    _constant(node, 1, value * 1.1)
    return "its constant is 1.1 times as large"


def operator(node: Any, rng: random.Random) -> Optional[str]:
    before = node.kind()[6:]
    after = OTHER.get(before)
    if after is None or (before in ("add", "sub") and len(list(node.inputs())) < 3):
        return None
    _replaced(node, after, list(node.inputs()))
    return f"{before} is {after}"


def order(node: Any, rng: random.Random) -> Optional[str]:
    if node.kind() == "aten::sub":
        one, other = list(node.inputs())[:2]
        if "Tensor" not in str(one.type()) or "Tensor" not in str(other.type()):
            return None
        node.replaceInput(0, other)
        node.replaceInput(1, one)
        return "what it subtracts is in another order"
    if node.kind() != "aten::cat":
        return None
    members = next(iter(node.inputs())).node()
    given = list(members.inputs())
    if members.kind() != "prim::ListConstruct" or len(given) < 2:
        return None
    for index, value in enumerate(reversed(given)):
        members.replaceInput(index, value)
    return "what it reads is in another order"


def shortcut(node: Any, rng: random.Random) -> Optional[str]:
    inputs = list(node.inputs())
    if node.kind() != "aten::add" or any("Tensor" not in str(one.type()) for one in inputs[:2]):
        return None
    if any(one.node().kind() == "prim::Constant" or one.node().kind() == "prim::GetAttr" for one in inputs[:2]):
        return None
    _replaced(node, "mul", [inputs[rng.randrange(2)], None])
    return "the sum has lost a term"


def _replaced(node: Any, name: str, inputs: List[Any]) -> None:
    """Another operator in the place of one; None among its inputs is the number 1."""
    made = _node(node, f"aten::{name}", [one for one in inputs if one is not None])
    if None in inputs:
        one = _node(made, "prim::Constant", [])
        _set(one, 1.0)
        made.addInput(one.output())
    made.output().setType(node.output().type())
    made.copyMetadata(node)
    node.output().replaceAllUsesWith(made.output())
    node.destroy()


GRAPH: Mapping[str, Change] = {
    "constant changed": operand,
    "attribute changed": attribute,
    "another operator": operator,
    "operands in another order": order,
    "term of a sum lost": shortcut,
}
