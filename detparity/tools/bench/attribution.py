"""Which layer of the model, and which stage, each kernel of an optimised graph computes for.

Names of nodes are not used. Convolutions are identified by their weights; other nodes by what they read, compared with what each layer
of the model reads. So files of old exporters and simplified ones are attributed as well as those with telling names. The runtime's own
nodes are traced to the tensors of the file they came from, else they get the attribution of their neighbours.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import TYPE_CHECKING, Collection, Dict, Iterable, Iterator, List, Mapping, Optional, Sequence, Set, Tuple

from detparity.artifacts.conv_weights import Stored, by_content, by_name, match, onnx_convs
from detparity.core.vocabulary import STAGES, ConvWeights, Layer

if TYPE_CHECKING:
    from detparity.artifacts.onnx_graph import Graph, Node

DECODE, NMS, OTHER = "decode", "NMS", "other"
ALL_STAGES = (*STAGES, DECODE, NMS, OTHER)  # in the order they run, then what could not be attributed
# What a layer without weights may do to the one layer it reads. Everything else that follows a layer is part of it.
_MOVES = frozenset(("MaxPool", "AveragePool", "Resize", "Upsample"))
# The runtime names a node that it lays out anew by the tensor it made, and numbers doubles.
_LAID_OUT = re.compile(r"_nchwc(_token_\d+)?$")


@dataclass(frozen=True)
class Attribution:
    """module: the layer's official path (`model.51`), or the name of a stage that has no layers; stage: one of `ALL_STAGES`."""

    module: str
    stage: str


UNATTRIBUTED = Attribution(OTHER, OTHER)


def modules_of(layers: Sequence[Layer]) -> Tuple[str, ...]:
    """Every module an `Attribution` can name, in the order of the model."""
    return (*(layer.name for layer in layers), DECODE, NMS, OTHER)


def owners(weights: Sequence[ConvWeights], graph: Graph) -> Dict[int, str]:
    """The module of each convolution, by the index of its node. Weights are matched by official name, then content, then order."""
    stored = onnx_convs(graph)
    found = by_name(weights, stored)
    found.update(by_content(weights, *_rest(weights, stored, found)))
    indices, left = _rest(weights, stored, found)
    by_order = match([weights[index] for index in indices], left)
    found.update({indices[index]: one for index, one in by_order.items()})
    return {one.node.index: module_of(weights[index].key) for index, one in found.items() if one.node is not None}


def _rest(
    weights: Sequence[ConvWeights], stored: Sequence[Stored], found: Mapping[int, Stored]
) -> Tuple[List[int], List[Stored]]:
    taken = {id(one) for one in found.values()}
    return [i for i in range(len(weights)) if i not in found], [one for one in stored if id(one) not in taken]


def module_of(key: str) -> str:
    """The layer that a parameter's official path is in: `model.51.cv1.conv` in `model.51`, `0.model.3.conv` in `0.model.3`."""
    parts = key.split(".")
    return ".".join(parts[: parts.index("model") + 2])


def attribute_file(
    graph: Graph, layers: Sequence[Layer], weights: Sequence[ConvWeights], suppressed: Suppressed
) -> FileAttributions:
    """The attribution of each node of a file. layers, weights: the model's; suppressed: what begins the suppression."""
    return _File(graph, layers, weights, suppressed).attributions()


@dataclass(frozen=True)
class Suppressed:
    """Where suppression begins: the tensors after which everything belongs to it, and further nodes that belong to it."""

    after: Collection[str] = ()
    nodes: Collection[int] = ()


@dataclass(frozen=True)
class FileAttributions:
    """Attributions by the tensor that a node makes, and by its name."""

    tensors: Mapping[str, Attribution]
    names: Mapping[str, Attribution]


class _File:
    """Attributes the nodes of a file. Layers are numbered as in `Layer.reads`: 0 is the image."""

    def __init__(
        self, graph: Graph, layers: Sequence[Layer], weights: Sequence[ConvWeights], suppressed: Suppressed
    ) -> None:
        self._graph, self._layers, self._suppressed = graph, layers, suppressed
        number = {layer.name: index + 1 for index, layer in enumerate(layers)}
        self._convs = {index: number[name] for index, name in owners(weights, graph).items() if name in number}
        owning = {module_of(conv.key) for conv in weights}
        self._weightless = [k for name, k in number.items() if name not in owning]
        self._consumers = graph.consumers()
        self._within: Dict[str, int] = {value.name: 0 for value in graph.inputs if value.name not in graph.constants}
        self._after: Set[str] = set(suppressed.after)
        self._taken: Set[int] = set()
        self._producers = graph.producers()

    def attributions(self) -> FileAttributions:
        found: Dict[int, Attribution] = {}
        for node in self._graph.nodes:
            attribution = self._attribution(node)
            if attribution is not None:
                found[node.index] = attribution
        for node in reversed(self._graph.nodes):  # what reads no layer, or only its size, belongs to its readers
            if node.index not in found:
                readers = [
                    found[one.index] for name in node.outputs for one in self._readers(name) if one.index in found
                ]
                found[node.index] = _earliest(readers)
        tensors: Dict[str, Attribution] = {}
        names: Dict[str, Attribution] = {}
        for node in self._graph.nodes:
            for inner in _nested(node):
                tensors.update({name: found[node.index] for name in inner.outputs if name})
                names[inner.name] = found[node.index]
        return FileAttributions(tensors, names)

    def _attribution(self, node: Node) -> Optional[Attribution]:
        reads = [name for inner in _nested(node) for name in inner.inputs if name]
        if node.index in self._suppressed.nodes or self._after.intersection(reads):
            self._after.update(node.outputs)
            return Attribution(NMS, NMS)
        number = self._number(node, {self._within[name] for name in reads if name in self._within})
        if not number:
            return None
        self._within.update(dict.fromkeys(node.outputs, number))
        layer = self._layers[number - 1]
        if layer.stage == "head" and node.index not in self._convs and not self._joins_a_conv(node):
            return Attribution(DECODE, DECODE)
        return Attribution(layer.name, layer.stage)

    def _joins_a_conv(self, node: Node) -> bool:
        """Whether it is an activation that a runtime computes inside the convolution before it."""
        maker = self._producers.get(node.first)
        return node.op == "Sigmoid" and maker is not None and maker.index in self._convs

    def _number(self, node: Node, sources: Set[int]) -> Optional[int]:
        """The layer a node is part of, None where it reads none, or only the size of one."""
        if node.index in self._convs:
            return self._convs[node.index]
        if not sources or node.op == "Shape":
            return None
        moves = len(sources) > 1 or sources == {0} or node.op in _MOVES
        layer = self._own_layer(sources) if moves else None
        if layer is None and node.op in _MOVES:
            layer = self._fed_by(node, sources)
        return layer or max(sources)

    def _own_layer(self, sources: Set[int]) -> Optional[int]:
        """The next layer without weights that reads just these."""
        for number in self._weightless:
            if number not in self._taken and set(self._layers[number - 1].reads) == sources:
                if sources != {0}:  # the squares of an image are cut out of it by several nodes
                    self._taken.add(number)
                return number
        return None

    def _fed_by(self, node: Node, sources: Set[int]) -> Optional[int]:
        """The layer whose convolutions alone read a node that reads what this layer reads: a branch that begins with a pool."""
        fed = {self._convs.get(reader.index) for reader in self._readers(node.outputs[0])}
        number = fed.pop() if len(fed) == 1 else None
        return number if number and sources <= set(self._layers[number - 1].reads) else None

    def _readers(self, name: str) -> Iterable[Node]:
        return self._consumers.get(name, ())


def _earliest(found: Sequence[Attribution]) -> Attribution:
    return min(found, key=lambda one: ALL_STAGES.index(one.stage), default=UNATTRIBUTED)


def _nested(node: Node) -> Iterator[Node]:
    """A node and those of its subgraphs, which share its attribution."""
    yield node
    for sub in node.subgraphs:
        yield from sub.walk()


def attribute_executed(nodes: Sequence[Node], file: FileAttributions) -> Dict[str, Attribution]:
    """The attribution of each node of the optimised graph, by its name; nodes: in an order in which they can run."""
    found: Dict[str, Attribution] = {}
    made: Dict[str, Attribution] = dict(file.tensors)
    readers: Dict[str, List[Node]] = {}
    for node in nodes:
        for name in node.inputs:
            readers.setdefault(name, []).append(node)
        origin = _origin(node, file)
        if origin is None:
            sources = [made[name] for name in node.inputs if name in made]
            origin = sources[0] if sources else None  # the first input is what an operator works on
        if origin is not None:
            made.update(dict.fromkeys(node.outputs, origin))
            found.update((inner.name, origin) for inner in _nested(node))
    for node in reversed(nodes):
        if node.name not in found:
            after = [found[one.name] for name in node.outputs for one in readers.get(name, ()) if one.name in found]
            found.update((inner.name, _earliest(after)) for inner in _nested(node))
    return found


def _origin(node: Node, file: FileAttributions) -> Optional[Attribution]:
    """The attribution of the file's node that this node of the runtime came from."""
    for name in (*node.outputs, _LAID_OUT.sub("", node.name)):
        if name in file.tensors:
            return file.tensors[name]
    return file.names.get(node.name) if node.name else None
