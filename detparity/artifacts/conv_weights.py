"""The convolutions a file stores, paired with the model's."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Dict, List, Optional, Sequence

import numpy as np

from detparity.artifacts.onnx_graph import Graph, Node, plain_name
from detparity.core.vocabulary import ConvWeights

UNFOLDED = frozenset(("BatchNormalization", "Mul", "Add"))


@dataclass(frozen=True)
class Stored:
    """A convolution as the file has it; bias None where it has none; node None for TorchScript; unfolded: whether something
    after it could be the batch-norm or the implicit factor that was not folded in."""

    name: str
    weight: np.ndarray
    bias: Optional[np.ndarray]
    node: Optional[Node] = None
    unfolded: bool = False


def onnx_convs(graph: Graph) -> List[Stored]:
    """The convolutions of a graph whose weights are constants, in its order."""
    producers, consumers = graph.producers(), graph.consumers()

    def constant(name: str) -> Optional[np.ndarray]:
        while name not in graph.constants and name in producers and producers[name].op == "Identity":
            name = producers[name].inputs[0]
        return graph.constants.get(name)

    found = []
    for node in graph.nodes:
        if node.op == "Conv":
            weight = constant(node.inputs[1])
            bias = constant(node.inputs[2]) if len(node.inputs) > 2 else None
            if weight is not None:
                after = {reader.op for reader in consumers.get(node.outputs[0], [])}
                found.append(Stored(node.inputs[1], weight, bias, node, bool(after & UNFOLDED)))
    return found


def match(expected: Sequence[ConvWeights], stored: Sequence[Stored]) -> Dict[int, Stored]:
    """Pair the model's convolutions with the file's: by official name, what is left by order, else by nearest content."""
    named = by_name(expected, stored)
    taken = {id(found) for found in named.values()}
    rest = [index for index in range(len(expected)) if index not in named]
    left = [found for found in stored if id(found) not in taken]
    if len(left) == len(rest) and all(expected[i].weight.shape == s.weight.shape for i, s in zip(rest, left)):
        return {**named, **dict(zip(rest, left))}
    return {**named, **by_content(expected, rest, left)}


def by_name(expected: Sequence[ConvWeights], stored: Sequence[Stored]) -> Dict[int, Stored]:
    """The file's convolutions by the index of the model's whose official name they bear."""
    found: Dict[int, Stored] = {}
    plain = {plain_name(s.name): s for s in stored}
    for index, conv in enumerate(expected):
        official = f"{conv.key}.weight"
        hits = [s for name, s in plain.items() if name == official or name.endswith("." + official)]
        if len(hits) == 1:
            found[index] = hits[0]
    return found


def by_content(expected: Sequence[ConvWeights], indices: Sequence[int], stored: Sequence[Stored]) -> Dict[int, Stored]:
    """Those of the model at `indices` with the nearest of the same shape, where any is near."""
    found: Dict[int, Stored] = {}
    left = list(stored)
    for index in indices:
        conv = expected[index]
        same = [s for s in left if s.weight.shape == conv.weight.shape]
        if same:
            best = min(same, key=lambda s: _distance(s.weight, conv.weight))
            if _distance(best.weight, conv.weight) < 0.1:
                found[index] = best
                left.remove(best)
    return found


def _distance(found: np.ndarray, expected: np.ndarray) -> float:
    """Largest difference as a share of the largest expected value; infinite where shapes differ or a value is NaN."""
    if found.shape != expected.shape:
        return float("inf")
    scale = max(float(np.abs(expected).max()), 1e-30)
    worst = float(np.abs(found.astype(np.float64) - expected).max()) / scale
    return worst if np.isfinite(worst) else float("inf")
