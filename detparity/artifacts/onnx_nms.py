"""Where an ONNX graph suppresses boxes: the operator, its numbers, the class offset before it, and the control flow around it."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Dict, List, Optional, Set, Tuple

import numpy as np

from detparity.artifacts.onnx_graph import Graph, Node, behind

OPERATORS = ("NonMaxSuppression", "EfficientNMS_TRT")
PASSING = ("Identity", "Cast", "Unsqueeze", "Squeeze", "Reshape")
HALF_TYPES = {10: "float16", 16: "bfloat16"}


@dataclass(frozen=True)
class Suppression:
    """The suppression of a graph. nodes: every suppression operator, the first is judged; numbers None where they are no constants;
    max_wh: the class offset in pixels, 0 where boxes are not moved apart, None where it is no constant;
    tail: the nodes from it to the outputs."""

    nodes: Tuple[Node, ...]
    iou_threshold: Optional[float]
    score_threshold: Optional[float]
    cap: Optional[int]
    max_wh: Optional[float]
    tail: Tuple[Node, ...]

    @property
    def node(self) -> Node:
        return self.nodes[0]

    @property
    def plugin(self) -> bool:
        return self.node.op == "EfficientNMS_TRT"


def find(graph: Graph) -> Optional[Suppression]:
    """Return what `graph` suppresses with, or None."""
    nodes = tuple(node for node in graph.walk() if node.op in OPERATORS)
    if not nodes:
        return None
    node = nodes[0]
    tail = _after(graph, node)
    if node.op == "EfficientNMS_TRT":
        return Suppression(
            nodes,
            scalar(node.get("iou_threshold")),
            scalar(node.get("score_threshold")),
            _integer(node.get("max_output_boxes")),
            None,
            tail,
        )
    inputs = list(node.inputs) + [""] * 5
    return Suppression(
        nodes,
        scalar(constant(graph, inputs[3])),
        scalar(constant(graph, inputs[4])),
        _integer(constant(graph, inputs[2])),
        _class_offset(graph, inputs[0]),
        tail,
    )


def constant(graph: Graph, name: str) -> Optional[np.ndarray]:
    """The value of a tensor that is a constant, perhaps behind operators that only pass it on."""
    return graph.constants.get(behind(name, graph, graph.producers(), PASSING))


def scalar(value: object) -> Optional[float]:
    """The number that a constant or an attribute is; None for anything else."""
    array = None if value is None else np.asarray(value)
    return float(array.ravel()[0]) if array is not None and array.size == 1 and array.dtype.kind in "fiu" else None


def _integer(value: object) -> Optional[int]:
    number = scalar(value)
    return int(number) if number is not None and np.isfinite(number) else None


def before(graph: Graph, name: str) -> List[Node]:
    """Every node that `name` depends on, in the file's order."""
    producers = graph.producers()
    found: Dict[int, Node] = {}
    waiting = [name]
    while waiting:
        node = producers.get(waiting.pop())
        if node is not None and node.index not in found:
            found[node.index] = node
            waiting.extend(node.inputs)
    return [found[index] for index in sorted(found)]


def _after(graph: Graph, start: Node) -> Tuple[Node, ...]:
    alive: Set[str] = set(start.outputs)
    found = []
    for node in graph.nodes:
        if node.index > start.index and alive.intersection(node.inputs):
            alive.update(node.outputs)
            found.append(node)
    return tuple(found)


def _class_offset(graph: Graph, boxes: str) -> Optional[float]:
    """The constant that multiplies a class index before it is added to the boxes; 0 where no class index reaches them, None where
    what multiplies it is computed."""
    tainted: Set[str] = set()
    offset: Optional[float] = None
    for node in before(graph, boxes):
        if node.op in ("ArgMax", "TopK"):
            tainted.add(node.outputs[-1])
        elif tainted.intersection(node.inputs):
            tainted.update(node.outputs)
            if node.op == "Mul" and offset is None:
                values = [scalar(constant(graph, name)) for name in node.inputs]
                offset = next((value for value in values if value is not None), None)
                if offset is None:
                    return None
            elif node.op == "Add" and offset is None:
                offset = 1.0  # the bare class index is added
    return offset or 0.0


@dataclass(frozen=True)
class HalfOffset:
    """A class offset that goes through half precision. node: what computes or casts in it; kind: the type; pixels: the constant."""

    node: Node
    kind: str
    pixels: float


def half_offset(graph: Graph) -> Optional[HalfOffset]:
    """Of the boxes of the first NonMaxSuppression: what rounds them to half precision after a multiple of a constant was added."""
    first = next((node for node in graph.walk() if node.op == "NonMaxSuppression"), None)
    producers, types = graph.producers(), {**graph.inferred, **graph.declared}
    waiting: List[Tuple[str, Optional[Node], str]] = [(first.inputs[0], None, "")] if first is not None else []
    seen: Set[str] = set()
    while waiting:
        name, by, kind = waiting.pop()
        node = producers.get(name)
        if node is None or name in seen:
            continue
        seen.add(name)
        cast = HALF_TYPES.get(node.get("to"), "") if node.op == "Cast" else ""
        own = types[name].dtype if name in types else ""
        found = cast or (own if own in HALF_TYPES.values() else "")
        by, kind = (node, found) if found else (by, kind)
        if node.op == "Add":
            added = max(map(abs, _multiplied(graph, node)), default=0.0)
            if added and by is not None:
                return HalfOffset(by, kind, added)
        elif node.op in (*PASSING, "Concat", "Slice", "Transpose", "Gather"):
            waiting += [(one, by, kind) for one in (node.inputs if node.op == "Concat" else node.inputs[:1])]
    return None


def _multiplied(graph: Graph, node: Node) -> List[float]:
    """The constants that operands of an addition are multiples of."""
    producers, found = graph.producers(), []
    for name in node.inputs:
        made = producers.get(behind(name, graph, producers, PASSING))
        if made is not None and made.op == "Mul":
            found += [value for value in (scalar(constant(graph, one)) for one in made.inputs) if value is not None]
    return found
