"""Where an ONNX file selects, and the same file with what it selects from, and what it chose, as further outputs."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import List, Sequence, Tuple

import onnx

from detparity.artifacts.onnx_graph import Graph, Node

SELECTING = ("TopK", "ArgMax")


@dataclass(frozen=True)
class Selection:
    """A node that selects: its title, the tensors it reads and gives (scores, indices), and the axis it counts along."""

    node: str
    scores: str
    indices: str
    axis: int
    largest: bool = True


def selections(graph: Graph) -> Tuple[Selection, ...]:
    """Every node of the main graph whose indices something reads, in the order they run."""
    read = {name for node in graph.walk() for name in node.inputs} | {value.name for value in graph.outputs}
    found: List[Selection] = []
    for node in graph.nodes:
        indices = _indices(node)
        if indices and indices in read and not node.domain:
            axis = node.get("axis", -1 if node.op == "TopK" else 0)
            found.append(Selection(node.title, node.inputs[0], indices, int(axis), bool(node.get("largest", 1))))
    return tuple(found)


def _indices(node: Node) -> str:
    if node.op == "TopK" and len(node.outputs) > 1:
        return node.outputs[1]
    return node.outputs[0] if node.op == "ArgMax" else ""


def exposed(path: Path, names: Sequence[str]) -> bytes:
    """The model with these inner tensors as outputs beside its own."""
    model = onnx.load(str(path))
    own = {value.name for value in model.graph.output}
    model.graph.output.extend(onnx.ValueInfoProto(name=name) for name in dict.fromkeys(names) if name not in own)
    return bytes(model.SerializeToString())
