"""The quantised tensors of an ONNX graph: who makes each, by which scale and zero point, and who reads it by others."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Dict, Iterator, List, Mapping, Optional, Sequence, Tuple

import numpy as np

from detparity.artifacts.onnx_graph import Graph, Node

# Positions of (scale, zero point) of what a node makes, and of (tensor, scale, zero point) of what it reads.
MAKES: Mapping[str, Tuple[int, int]] = {
    "QuantizeLinear": (1, 2),
    **dict.fromkeys(("QLinearConv", "QLinearMatMul", "QLinearAdd", "QLinearMul"), (6, 7)),
    **dict.fromkeys(("QLinearSigmoid", "QLinearLeakyRelu", "QLinearGlobalAveragePool", "QLinearAveragePool"), (3, 4)),
    "QLinearConcat": (0, 1),
}
READS: Mapping[str, Sequence[Tuple[int, int, int]]] = {
    "DequantizeLinear": ((0, 1, 2),),
    "QLinearConv": ((0, 1, 2),),
    **dict.fromkeys(("QLinearMatMul", "QLinearAdd", "QLinearMul"), ((0, 1, 2), (3, 4, 5))),
    **dict.fromkeys(
        ("QLinearSigmoid", "QLinearLeakyRelu", "QLinearGlobalAveragePool", "QLinearAveragePool"), ((0, 1, 2),)
    ),
}
BIASES = {"QLinearConv": 8, "QGemm": 6}  # positions of biases, whose scale is that of features and weights together
PASSING = ("Identity", "Reshape", "Transpose", "Slice", "Squeeze", "Unsqueeze", "MaxPool", "Resize", "Flatten", "Split")
SAME = 1e-4  # relative difference of two scales, of which one is a product in float32
SPREADING = (*PASSING, "Concat", "Gather")


@dataclass(frozen=True)
class Scale:
    """scale and zero point, numbers or one a channel."""

    scale: np.ndarray
    zero: np.ndarray

    def same(self, other: Scale) -> bool:
        pairs = ((self.scale, other.scale), (self.zero, other.zero))
        return all(np.array_equal(a.ravel(), b.ravel()) for a, b in pairs)

    @property
    def text(self) -> str:
        first = f"{float(self.scale.ravel()[0]):.6g}" if self.scale.size else "none"
        more = f" and {self.scale.size - 1} more" if self.scale.size > 1 else ""
        return f"scale {first}{more}, zero point {int(self.zero.ravel()[0])}"


@dataclass(frozen=True)
class Quantised:
    """A tensor of features in 8 bits. real: the tensor of numbers it was made from, empty where an operator computes in 8 bits; kind:
    its type."""

    name: str
    node: Node
    scale: Scale
    real: str = ""

    @property
    def title(self) -> str:
        return (self.real or self.name).replace("_QuantizeLinear_Input", "")


def tensors(graph: Graph) -> List[Quantised]:
    """Every quantised tensor of features with a constant scale, in the order of the graph."""
    found = []
    for node in graph.nodes:
        positions = MAKES.get(node.op)
        if positions is None or not node.outputs or (node.first in graph.constants and node.op == "QuantizeLinear"):
            continue
        scale = _scale(graph, node, *positions)
        if scale is not None:
            real = node.first if node.op == "QuantizeLinear" else ""
            found.append(Quantised(node.outputs[0], node, scale, real))
    return found


def _scale(graph: Graph, node: Node, scale: int, zero: int) -> Optional[Scale]:
    names = list(node.inputs) + [""] * 8
    value = graph.constants.get(names[scale])
    return None if value is None else Scale(value, graph.constants.get(names[zero], np.zeros((), np.uint8)))


def mismatches(graph: Graph) -> Iterator[Tuple[Node, str, Scale, Scale]]:
    """Readers of a quantised tensor that take it by another scale or zero point than it was made by: (reader, tensor, made, read)."""
    made: Dict[str, Scale] = {one.name: one.scale for one in tensors(graph)}
    for node in graph.nodes:
        if node.op in PASSING and node.first in made:
            made.update(dict.fromkeys(node.outputs, made[node.first]))
    for node in graph.nodes:
        reads = READS.get(node.op, ())
        if node.op == "QLinearConcat":
            reads = [(k, k + 1, k + 2) for k in range(2, len(node.inputs) - 2, 3)]
        for tensor, scale, zero in reads:
            if tensor < len(node.inputs) and node.inputs[tensor] in made:
                own, read = made[node.inputs[tensor]], _scale(graph, node, scale, zero)
                if read is not None and not own.same(read):
                    yield node, node.inputs[tensor], own, read


def biases(graph: Graph) -> Iterator[Tuple[Node, int, int]]:
    """Convolutions whose bias has for most channels the scale of features times that of weights, and for some another: (node,
    channels that differ, channels). A tool that gives biases scales of their own does so for all."""
    producers = graph.producers()
    for node in graph.nodes:
        read = [producers.get(name) for name in node.inputs[:3]] if node.op == "Conv" else []
        scales = [
            _scale(graph, one, 1, 2) if one is not None and one.op == "DequantizeLinear" else None for one in read
        ]
        if len(scales) < 3 or any(one is None for one in scales):
            continue
        features, weights, bias = (np.ravel(one.scale).astype(np.float64) for one in scales if one is not None)
        if features.size != 1 or weights.size not in (1, bias.size):
            continue
        wrong = np.abs(bias - features * weights) > SAME * np.abs(bias)
        if 0 < wrong.sum() <= wrong.size // 2:
            yield node, int(wrong.sum()), int(wrong.size)


def shared_biases(graph: Graph) -> Iterator[Tuple[Node, Node, float]]:
    """Biases of integers that two operators read, each by the scale of its own features and weights: (first, other, their ratio)."""
    first: Dict[str, Tuple[Node, np.ndarray]] = {}
    for node in graph.nodes:
        position = BIASES.get(node.op, len(node.inputs))
        scales = [graph.constants.get(name) for name in (*node.inputs[1:2], *node.inputs[4:5])]
        if position >= len(node.inputs) or not node.inputs[position] or any(one is None for one in scales):
            continue
        step = np.prod([np.max(one) for one in scales if one is not None])
        known = first.setdefault(node.inputs[position], (node, step))
        if abs(step - known[1]) > SAME * known[1]:
            yield known[0], node, float(step / known[1])


def last_scales(graph: Graph) -> List[Tuple[str, Node, Scale]]:
    """Dequantising nodes from which an output comes with nothing computed after them: (output, node, scale)."""
    producers, found = graph.producers(), []
    for value in graph.outputs:
        waiting, seen = [value.name], set()
        while waiting:
            node = producers.get(waiting.pop())
            if node is None or node.index in seen:
                continue
            seen.add(node.index)
            if node.op == "DequantizeLinear":
                scale = _scale(graph, node, 1, 2)
                found += [(value.name, node, scale)] if scale is not None else []
            elif node.op in SPREADING:
                waiting += node.inputs if node.op == "Concat" else node.inputs[:1]
    return found
