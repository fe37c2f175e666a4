"""An ONNX graph with its names resolved: operators, and what each of them reads.

Names, the order of nodes and of attributes, defaults written out, Identity nodes, and the difference between an initializer and
a Constant node end here: nothing that is built on this module can depend on them.
"""

from __future__ import annotations

from collections import deque
from dataclasses import dataclass
from typing import Dict, FrozenSet, Iterator, List, Mapping, Optional, Sequence, Set, Tuple, Union

import numpy as np

from detparity.artifacts.onnx_graph import Graph, Node, OnnxFile, operator
from detparity.core.errors import InputError
from detparity.core.text import listed
from detparity.tools.diff.canonical_text import attribute_text

COMMUTATIVE = frozenset(
    ("Add", "Mul", "And", "Or", "Xor", "Equal", "Max", "Min", "Sum", "Mean", "BitwiseAnd", "BitwiseOr", "BitwiseXor")
)
_REDUCTIONS = ("Max", "Min", "Mean", "Sum", "Prod", "L1", "L2", "SumSquare", "LogSum", "LogSumExp")
# An attribute in older opsets, an input at this position in newer ones.
MOVED: Mapping[str, Tuple[str, int]] = {
    **{name: ("axes", 1) for name in ("Squeeze", "Unsqueeze", *(f"Reduce{kind}" for kind in _REDUCTIONS))},
    "Split": ("split", 1),
}
# Attributes whose default the standard gives in prose: ones or zeros for each spatial axis, two of them for `pads`.
_POOL = ("strides", "pads")
SPATIAL: Mapping[str, Tuple[str, ...]] = {
    "Conv": ("dilations", "strides", "pads"),
    "ConvTranspose": ("dilations", "strides", "pads", "output_padding"),
    "MaxPool": ("dilations", *_POOL),
    "AveragePool": _POOL,
    "LpPool": _POOL,
}


@dataclass(frozen=True, eq=False)
class Constant:
    """A value the file stores. name: what the file calls it, empty for an attribute that is read as an input; overridable:
    whether a caller may feed another."""

    name: str
    value: np.ndarray
    overridable: bool = False


@dataclass(frozen=True, eq=False)
class Formal:
    """An input of a graph or a body: how deep that is nested, and the input's position."""

    depth: int
    position: int


@dataclass(frozen=True, eq=False)
class Port:
    """One output of an operator."""

    op: Op
    position: int


Source = Union[Constant, Formal, Port]


@dataclass(frozen=True, eq=False)
class Op:
    """An operator of a scope. settings: every attribute as text, defaults included; explicit: those that are not the default;
    sources: what it reads, None where an optional input is left out; inputs: what the standard calls these; bodies: its
    subgraphs by attribute, or under "" the function it calls; captured: what the bodies read from outside, each once."""

    kind: str
    node: Node
    settings: Mapping[str, str]
    explicit: FrozenSet[str]
    sources: Tuple[Optional[Source], ...]
    inputs: Tuple[str, ...]
    bodies: Tuple[Tuple[str, Scope], ...]
    captured: Tuple[Source, ...]

    @property
    def results(self) -> int:
        """How many outputs it has: Split divides by it."""
        return max((k + 1 for k, name in enumerate(self.node.outputs) if name), default=0)

    @property
    def commutative(self) -> bool:
        return self.kind in COMMUTATIVE

    @property
    def reads(self) -> List[Tuple[str, Source]]:
        """Everything it reads, with the slot that reads it: the same slot for all of a commutative operator."""
        own = [("" if self.commutative else str(k), source) for k, source in enumerate(self.sources) if source]
        return own + [("captured", source) for source in self.captured]


@dataclass(frozen=True, eq=False)
class Scope:
    """A graph or a body. ops: in an order in which they can run; unused: constants that nothing reads; depth: of nesting;
    head: what else defines a function's body (opsets, defaults of its attributes)."""

    ops: Tuple[Op, ...]
    outputs: Tuple[Source, ...]
    formals: int
    unused: Tuple[Constant, ...]
    depth: int
    head: str = ""

    def nested(self) -> Iterator[Scope]:
        """This scope and the bodies in it, however deep; not those of functions, which are scopes of their own."""
        yield self
        for op in self.ops:
            for attribute, body in op.bodies:
                if attribute:
                    yield from body.nested()


@dataclass(frozen=True)
class Wiring:
    """A file: its graph, and the functions that something in it calls, by name."""

    main: Scope
    functions: Mapping[str, Scope]

    def scopes(self) -> Iterator[Tuple[str, Scope]]:
        """Every scope once, with its title: "main", "depth 1" for a body, "function NAME"."""
        for scope in self.main.nested():
            yield (f"depth {scope.depth}" if scope.depth else "main"), scope
        for name, function in sorted(self.functions.items()):
            for scope in function.nested():
                yield f"function {name}", scope


def resolve(file: OnnxFile) -> Wiring:
    """Resolve the names of a file. Raises InputError, in one line without the file's name, where they do not make sense: nodes
    in a circle, a name that nothing makes or two things make."""
    resolver = _Resolver(file)
    return Wiring(resolver.scope(file.graph, _Names(None), 0, file.opsets), resolver.functions)


class _Names:
    """The sources behind the names of one scope. captured: what was found further out, in the order of asking."""

    def __init__(self, outer: Optional[_Names]) -> None:
        self._own: Dict[str, Source] = {}
        self._outer = outer
        self.captured: Dict[Source, None] = {}

    def __contains__(self, name: str) -> bool:
        return name in self._own

    def claim(self, name: str, source: Source) -> None:
        if name in self._own:
            raise InputError(f"two things in one graph are called {name!r}")
        self._own[name] = source

    def find(self, name: str, reader: str) -> Source:
        source = self._find(name)
        if source is None:
            raise InputError(f"{reader} {name!r}, which no input, node or dense initializer makes")
        return source

    def _find(self, name: str) -> Optional[Source]:
        if name in self._own:
            return self._own[name]
        source = self._outer._find(name) if self._outer else None
        if source is not None:
            self.captured[source] = None
        return source


class _Resolver:
    """Makes scopes of graphs; each function that is called becomes one scope."""

    def __init__(self, file: OnnxFile) -> None:
        self._file = file
        self.functions: Dict[str, Scope] = {}
        self._free: Dict[int, FrozenSet[str]] = {}

    def scope(self, graph: Graph, names: _Names, depth: int, opsets: Mapping[str, int], head: str = "") -> Scope:
        stored = _stored(graph)
        given = {value.name for value in graph.inputs}
        for name in stored:
            names.claim(name, Constant(name, graph.constants[name], name in given))
        formals = [value.name for value in graph.inputs if value.name not in graph.constants]
        for position, name in enumerate(formals):
            names.claim(name, Formal(depth, position))
        ops: List[Op] = []
        for node in self._ordered([node for node in graph.nodes if not _is_constant(node, graph)]):
            if node.full_op == "Identity" and len(node.inputs) == 1 and len(node.outputs) == 1 and node.inputs[0]:
                names.claim(node.outputs[0], names.find(node.inputs[0], f"{node.title} reads"))
                continue
            op = self._op(node, names, depth, opsets)
            ops.append(op)
            for position, name in enumerate(node.outputs):
                if name:
                    names.claim(name, Port(op, position))
        outputs = tuple(names.find(value.name, "the graph returns") for value in graph.outputs)
        used = {source for op in ops for _, source in op.reads}.union(outputs)
        constants = [names.find(name, "") for name in stored]
        unused = tuple(item for item in constants if isinstance(item, Constant) and item not in used)
        return Scope(tuple(ops), outputs, len(formals), unused, depth, head)

    def _op(self, node: Node, names: _Names, depth: int, opsets: Mapping[str, int]) -> Op:
        bodies: List[Tuple[str, Scope]] = []
        captured: Dict[Source, None] = {}
        for attribute, graph in _subgraphs(node):
            inner = _Names(names)
            bodies.append((attribute, self.scope(graph, inner, depth + 1, opsets)))
            captured.update(inner.captured)
        sources = [names.find(name, f"{node.title} reads") if name else None for name in node.inputs]
        if node.full_op in self._file.functions:
            bodies.append(("", self._function(node.full_op)))
        known = operator(node.op, node.domain, opsets.get(node.domain, 0))
        written = {key: item for key, item in node.attributes.items() if item.kind not in ("GRAPH", "GRAPHS")}
        settings = {key: attribute_text(item.kind, item.value) for key, item in written.items()}
        defaults = {key: attribute_text(item.kind, item.value) for key, item in known.defaults.items()}
        moved, position = MOVED.get(node.full_op, ("", 0))
        if moved in written and written[moved].kind == "INTS" and len(sources) <= position:
            sources += [None] * (position - len(sources))
            sources.append(Constant("", np.array(written[moved].value, np.int64)))
            del settings[moved]
        while sources and sources[-1] is None:
            sources.pop()
        defaults.update(_spatial(node, sources))
        explicit = frozenset(key for key, text in settings.items() if defaults.get(key) != text)
        settings = {**defaults, **settings}
        bodies.sort(key=lambda pair: pair[0])
        return Op(node.full_op, node, settings, explicit, tuple(sources), known.inputs, tuple(bodies), tuple(captured))

    def _function(self, name: str) -> Scope:
        if name not in self.functions:
            function = self._file.functions[name]
            defaults = {
                key: attribute_text(item.kind, item.value) if item else "" for key, item in function.attributes.items()
            }
            head = repr((sorted(function.opsets.items()), sorted(defaults.items())))
            self.functions[name] = self.scope(function.body, _Names(None), 0, function.opsets, head)
        return self.functions[name]

    def _ordered(self, nodes: Sequence[Node]) -> Iterator[Node]:
        """The nodes in an order in which they can run. Raises InputError for a circle."""
        maker = {name: index for index, node in enumerate(nodes) for name in node.outputs if name}
        needs = [{maker[name] for name in self._asks(node) if name in maker} for node in nodes]
        readers: List[List[int]] = [[] for _ in nodes]
        for index, needed in enumerate(needs):
            for other in needed:
                readers[other].append(index)
        left = [len(needed) for needed in needs]
        ready = deque(index for index, count in enumerate(left) if not count)
        while ready:
            index = ready.popleft()
            yield nodes[index]
            for reader in readers[index]:
                left[reader] -= 1
                if not left[reader]:
                    ready.append(reader)
        if any(left):
            raise InputError(f"its nodes run in a circle: {_circle(nodes, needs, left)}")

    def _asks(self, node: Node) -> Set[str]:
        """The names a node reads, those its subgraphs capture included."""
        return {name for name in node.inputs if name}.union(*(self._captures(graph) for graph in node.subgraphs))

    def _captures(self, graph: Graph) -> FrozenSet[str]:
        if id(graph) not in self._free:
            asked = {value.name for value in graph.outputs}.union(*(self._asks(node) for node in graph.nodes))
            made = {name for node in graph.nodes for name in node.outputs}
            made.update(graph.constants, (value.name for value in graph.inputs))
            self._free[id(graph)] = frozenset(asked - made)
        return self._free[id(graph)]


def _is_constant(node: Node, graph: Graph) -> bool:
    """Whether it is a Constant node whose value was read; one that holds texts or a sparse tensor stays an operator."""
    return node.full_op == "Constant" and bool(node.outputs) and node.outputs[0] in graph.constants


def _stored(graph: Graph) -> List[str]:
    """The names of all constants, in the order of the file."""
    return [*graph.initializers, *(node.outputs[0] for node in graph.nodes if _is_constant(node, graph))]


def _subgraphs(node: Node) -> Iterator[Tuple[str, Graph]]:
    left = list(node.subgraphs)
    for key, item in node.attributes.items():
        if item.kind == "GRAPH":
            yield key, left.pop(0)
        elif item.kind == "GRAPHS":
            for index in range(item.value):
                yield f"{key}[{index}]", left.pop(0)
    if left:
        raise InputError(f"{node.title} has two attributes of one name")


def _spatial(node: Node, sources: Sequence[Optional[Source]]) -> Dict[str, str]:
    """The defaults that depend on how many spatial axes there are."""
    if node.full_op not in SPATIAL:
        return {}
    found: Dict[str, str] = {}
    kernel = node.get("kernel_shape")
    weight = sources[1] if node.op.startswith("Conv") and len(sources) > 1 else None
    if isinstance(weight, Constant):
        kernel = list(weight.value.shape[2:])
        found["kernel_shape"] = attribute_text("INTS", kernel)
    if isinstance(kernel, list):
        for key in SPATIAL[node.full_op]:
            number = 1 if key in ("dilations", "strides") else 0
            found[key] = attribute_text("INTS", [number] * (len(kernel) * (2 if key == "pads" else 1)))
    return found


def _circle(nodes: Sequence[Node], needs: Sequence[Set[int]], left: Sequence[int]) -> str:
    """The titles along one circle: from any node that waits, always to one that it waits for."""
    trail: List[int] = []
    index = next(index for index, count in enumerate(left) if count)
    while index not in trail:
        trail.append(index)
        index = min(other for other in needs[index] if left[other])
    circle = [nodes[k].title for k in trail[trail.index(index) :]]
    return listed([title if len(title) <= 60 else title[:57] + "..." for title in circle])
