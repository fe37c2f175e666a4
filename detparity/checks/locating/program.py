"""A file as a graph of tensors, run with some of them given from outside."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import AbstractSet, Dict, List, Mapping, Protocol, Sequence, Set, Tuple

import numpy as np

from detparity.artifacts.onnx_fed import GIVEN, fed
from detparity.artifacts.onnx_graph import Graph, Node
from detparity.core.trace import other
from detparity.core.vocabulary import Load
from detparity.engines.remote import client

EXACT, RUNTIME = "onnx_exact", "onnxruntime"
HOW = {EXACT: Load("exact"), RUNTIME: Load("disabled")}
Given = Mapping[str, np.ndarray]


@dataclass(frozen=True)
class Part:
    """One operator of a file. title: what its users find it by; reads and makes: names of tensors that depend on the image."""

    title: str
    operator: str
    reads: Tuple[str, ...]
    makes: Tuple[str, ...]


class Program(Protocol):
    """parts: in the order they run; image: name of the tensor that is the image; outputs: names; fixed: tensors that are the
    same for other images of one size; converted: whether `content` is of another form than the file."""

    @property
    def converted(self) -> bool: ...

    @property
    def parts(self) -> Sequence[Part]: ...

    @property
    def image(self) -> str: ...

    @property
    def outputs(self) -> Sequence[str]: ...

    @property
    def fixed(self) -> AbstractSet[str]: ...

    def exact(self, given: Given, shown: Sequence[str]) -> Dict[str, np.ndarray]:
        """Some floating-point tensors, in float64, where the readers of others are given these."""

    def rounded(self, given: Given, shown: Sequence[str]) -> Dict[str, np.ndarray]:
        """The same as the file's own precision computes it."""

    def content(self, given: Given, shown: Sequence[str]) -> bytes:
        """The model, as ONNX, that makes `shown` of `given`."""

    def feeding(self, name: str, given: Given) -> np.ndarray:
        """What an input of such a model is given, in its own type."""


class OnnxProgram:
    """See `Program`. feed: what the file is called with; runs: how many inferences there were."""

    converted = False

    def __init__(self, path: Path, graph: Graph, image: str, feed: Given, engine: str = RUNTIME) -> None:
        self._path, self._feed, self._engine = path, dict(feed), engine
        self.image, self.runs = image, 0
        self.outputs = tuple(value.name for value in graph.outputs)
        self._types: Dict[str, np.dtype] = {}
        self.parts: Sequence[Part] = _parts(graph, image)
        shown = [name for part in self.parts for name in part.makes]
        self._first = self._called(engine, {}, shown)
        self._types = {name: value.dtype for name, value in self._first.items() if value.dtype.kind == "f"}
        self.parts = _floating(self.parts, {image, *self._types})
        self._feed = {**feed, image: other(feed[image])}
        again = self._called(engine, {}, list(self._types))
        self._feed = dict(feed)
        self.fixed = {name for name, value in again.items() if np.array_equal(value, self._first[name], equal_nan=True)}

    def exact(self, given: Given, shown: Sequence[str]) -> Dict[str, np.ndarray]:
        return self._called(EXACT, given, shown)

    def rounded(self, given: Given, shown: Sequence[str]) -> Dict[str, np.ndarray]:
        return self._called(self._engine, given, shown) if given else {name: self._first[name] for name in shown}

    def content(self, given: Given, shown: Sequence[str]) -> bytes:
        """The model that makes `shown` of `given`."""
        return fed(self._path, {name: self._types[name] for name in given}, shown)

    def feeding(self, name: str, given: Given) -> np.ndarray:
        """What an input of such a model is given, in its own type."""
        if name in self._feed:
            return self._feed[name]
        tensor = name[len(GIVEN) :]
        return given[tensor].astype(self._types[tensor])

    def _called(self, engine: str, given: Given, shown: Sequence[str]) -> Dict[str, np.ndarray]:
        self.runs += 1
        runner = client().prepare(engine, self.content(given, shown), HOW.get(engine, Load("disabled")))
        exact = engine == EXACT
        values = {GIVEN + name: value if exact else value.astype(self._types[name]) for name, value in given.items()}
        feed = {**self._feed, **values}
        return dict(runner.call({name: feed[name] for name in feed if name in runner.input_names}))


def _parts(graph: Graph, image: str) -> List[Part]:
    """The nodes that depend on the image, its shape included."""
    known: Set[str] = {image}
    found = []
    for node in graph.nodes:
        reads = tuple(dict.fromkeys(name for name in (*node.inputs, *_outer(node)) if name in known))
        makes = tuple(name for name in node.outputs if name and name not in graph.constants)
        if reads and makes:
            known.update(makes)
            found.append(Part(node.title, node.full_op, reads, makes))
    return found


def _outer(node: Node) -> List[str]:
    """What the subgraphs of a node read."""
    return [name for sub in node.subgraphs for inner in sub.nodes for name in (*inner.inputs, *_outer(inner))]


def _floating(parts: Sequence[Part], floating: Set[str]) -> List[Part]:
    """Parts with floating-point results; what those of integers read is read by their readers."""
    behind: Dict[str, Tuple[str, ...]] = {name: (name,) for name in floating}
    found = []
    for part in parts:
        reads = tuple(dict.fromkeys(source for name in part.reads for source in behind.get(name, ())))
        makes = tuple(name for name in part.makes if name in floating)
        for name in part.makes:
            behind.setdefault(name, reads)
        if makes:
            found.append(Part(part.title, part.operator, reads, makes))
    return found
