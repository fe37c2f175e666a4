"""The graph of a TorchScript module as plain facts: its nodes, what their inputs are known to be, the sizes written into it."""

from __future__ import annotations

import functools
import re
from typing import Any, Dict, Iterator, List, Optional, Tuple

import numpy as np
import torch

from detparity.artifacts.torchscript_facts import Constant, Written

# Operators that take a size, and which of their inputs is it: a list of numbers.
SHAPES: Dict[str, int] = {
    **dict.fromkeys(("view", "reshape", "_unsafe_view", "_reshape_alias", "expand", "repeat", "tile"), 1),
    **dict.fromkeys(("new_zeros", "new_ones", "new_empty", "new_full", "broadcast_to", "adaptive_avg_pool2d"), 1),
    **dict.fromkeys(("zeros", "ones", "empty", "full"), 0),
    **dict.fromkeys(
        ("upsample_nearest2d", "upsample_bilinear2d", "upsample_bicubic2d", "_upsample_nearest_exact2d"), 1
    ),
    "unflatten": 2,
    "split_with_sizes": 1,
}
# Operators that take an end or a length, and which of their inputs is it.
LIMITS: Dict[str, int] = {"slice": 3, "narrow": 3, "linspace": 2}
# What passes on the number it is given, and what takes one part of a list or a tuple.
PASSING = ("aten::Int", "aten::ScalarImplicit", "prim::NumToTensor", "aten::detach", "aten::to")
PARTS = ("aten::__getitem__", "prim::TupleIndex", "prim::TupleUnpack", "prim::ListUnpack")
UNKNOWN = "unknown"
FRAME = re.compile(r"\.py(\(\d+\): |\", line \d+)")  # as a trace and as a script record it
TORCH = re.compile(r"[/\\]torch[/\\](nn|jit|functional|_\w+)\b")
LEAVES = ("prim::Constant", "prim::GetAttr", "prim::ListConstruct", "prim::TupleConstruct")  # that hold no blocks
_UNKNOWN = object()


def walk(block: Any) -> Iterator[Any]:
    """Every node, those of inner blocks after the one that holds them. Operators hold none: asking each takes longest here."""
    for node in block.nodes():
        yield node
        kind = node.kind()
        if kind.startswith("prim::") and kind not in LEAVES:
            for inner in node.blocks():
                yield from walk(inner)


def inputs_of(node: Any) -> List[Any]:
    """The values a node takes: one by one, a twentieth of the time of torch's iterator, which torch 1.7 alone has."""
    if not hasattr(node, "inputsSize"):
        return list(node.inputs())
    return [node.inputsAt(index) for index in range(node.inputsSize())]


def outputs_of(node: Any) -> List[Any]:
    """The values a node gives, as `inputs_of`."""
    return [node.outputsAt(index) for index in range(node.outputsSize())]


def source(node: Any) -> str:
    """The line of the exporting program that a node records: the innermost that is not torch's own, where there is one."""
    try:
        lines = [line.strip() for line in node.sourceRange().splitlines() if line.strip()]
    except RuntimeError:  # torch up to 1.11 cannot read the source table of a newer archive
        return "unknown: this torch cannot read the source lines of an archive written by a newer one"
    frames = [line for line in lines if FRAME.search(line)]
    own = [line for line in frames if not TORCH.search(line)]
    return (own or frames or lines or [UNKNOWN])[0]


class Known:
    """What values of a module's graph are, where that does not depend on the input."""

    def __init__(self, module: torch.jit.ScriptModule) -> None:
        self.module = module

    @functools.cached_property
    def graph(self) -> Any:
        """With what it calls in place of the calls."""
        return self.module.inlined_graph

    @functools.cached_property
    def itself(self) -> str:
        """The name of the module among the graph's values."""
        return str(next(iter(self.graph.inputs())).debugName())

    @functools.cached_property
    def nodes(self) -> Tuple[Any, ...]:
        """Every node, as `walk` has them."""
        return tuple(walk(self.graph))

    def value(self, of: Any) -> Any:
        """The Python value of a graph value, None where it is computed, or is None."""
        found = self._find(of)
        return None if found is _UNKNOWN else found

    def _find(self, of: Any) -> Any:
        of = _settled(of)
        node = of.node()
        kind = node.kind()
        if kind == "prim::Constant":
            return of.toIValue()
        if kind == "prim::Param":
            return self.module if of.debugName() == self.itself else _UNKNOWN
        if kind not in (*PASSING, *PARTS, "prim::GetAttr"):
            return _UNKNOWN
        inputs = [self._find(value) for value in inputs_of(node)]
        if kind == "prim::GetAttr":
            return _UNKNOWN if inputs[0] is _UNKNOWN else getattr(inputs[0], node.s("name"), _UNKNOWN)
        if kind in PASSING:
            return inputs[0]
        names = [output.debugName() for output in outputs_of(node)]
        return _part(inputs[0], inputs[1] if len(inputs) > 1 else names.index(of.debugName()))

    def number(self, of: Any) -> Optional[int]:
        """The integer a graph value is known to be."""
        found = self._find(of)
        if isinstance(found, torch.Tensor):
            found = found.item() if found.numel() == 1 and not found.is_floating_point() else None
        return found if isinstance(found, int) and not isinstance(found, bool) else None

    def numbers(self, of: Any) -> Tuple[Optional[int], ...]:
        """The numbers of a list, each None where it is computed; empty where the list itself is."""
        node = _settled(of).node()
        if node.kind() == "prim::ListConstruct":
            return tuple(self.number(value) for value in inputs_of(node))
        found = self._find(of)
        complete = isinstance(found, (list, tuple)) and all(type(item) is int for item in found)
        return tuple(found) if complete else ()

    def path(self, node: Any) -> str:
        """The dotted path of an attribute that a GetAttr reads."""
        owner = node.inputsAt(0).node()
        before = self.path(owner) + "." if owner.kind() == "prim::GetAttr" else ""
        return before + str(node.s("name"))


def _settled(of: Any) -> Any:
    """The value behind casts, and behind a branch where only one side gives anything."""
    while of.node().kind() in ("prim::If", "prim::unchecked_cast"):
        node = of.node()
        if node.kind() == "prim::If":
            position = [output.debugName() for output in outputs_of(node)].index(of.debugName())
            sides = [_settled(list(block.outputs())[position]) for block in node.blocks()]
            given = [side for side in sides if not _nothing(side)]
            if len(given) != 1:
                return of
            of = given[0]
        else:
            of = node.inputsAt(0)
    return of


def _nothing(of: Any) -> bool:
    kind = of.node().kind()
    return kind == "prim::Uninitialized" or (kind == "prim::Constant" and of.toIValue() is None)


def _part(sequence: Any, index: Any) -> Any:
    known = isinstance(sequence, (list, tuple)) and type(index) is int and -len(sequence) <= index < len(sequence)
    return sequence[index] if known else _UNKNOWN


def written(known: Known) -> List[Written]:
    """Every size the graph has as numbers, in part or in full."""
    found = []
    for node in known.nodes:
        numbers = _size_of(known, node)
        if any(number is not None and number > 1 for number in numbers):
            found.append(Written(node.kind(), numbers, source(node)))
    return found


def _size_of(known: Known, node: Any) -> Tuple[Optional[int], ...]:
    name = node.kind().partition("::")[2].rstrip("_")
    if name not in SHAPES and name not in LIMITS and name != "arange":
        return ()
    inputs = inputs_of(node)
    if name in SHAPES and len(inputs) > SHAPES[name]:
        return known.numbers(inputs[SHAPES[name]])
    if name == "arange" and len(inputs) >= 5:
        return (
            known.number(inputs[0 if len(inputs) == 5 else 1]),
        )  # (end, ...), (start, end, ...), (start, end, step, ...)
    if name in LIMITS and len(inputs) > LIMITS[name]:
        return (known.number(inputs[LIMITS[name]]),)
    return ()


def tensors(known: Known, own: Dict[str, torch.Tensor]) -> List[Constant]:
    """Tensors frozen into the graph, and those it reads from attributes, alone or in a list; `own` parameters are none of them."""
    found = []
    for node in known.nodes:
        if node.kind() not in ("prim::Constant", "prim::GetAttr"):
            continue
        output = node.outputsAt(0)
        if "Tensor" not in str(output.type()):
            continue
        path = known.path(node) if node.kind() == "prim::GetAttr" else ""
        value = known.value(output)
        users = [use.user for use in output.uses()]
        origin = next((line for line in map(source, [node, *users]) if line != UNKNOWN), UNKNOWN)
        for index, part in enumerate(value if isinstance(value, (list, tuple)) else [value]):
            if isinstance(part, torch.Tensor) and path not in own:
                name = path if part is value else f"{path}[{index}]"
                kinds = tuple(user.kind() for user in users)
                found.append(Constant(plain(part), origin, kinds, name, type_of(part)))
    return found


def plain(tensor: torch.Tensor) -> np.ndarray:
    """A tensor as numpy has it; bfloat16, which numpy has not, as float32."""
    tensor = tensor.detach().cpu()
    return np.asarray((tensor.float() if tensor.dtype == torch.bfloat16 else tensor).numpy())


def type_of(tensor: torch.Tensor) -> str:
    return str(tensor.dtype).rpartition(".")[2]
