"""The convolutions a file stores, paired with the model's."""

from __future__ import annotations

import math
from dataclasses import dataclass, replace
from typing import Dict, List, Optional, Sequence, Set, Tuple

import numpy as np

from detparity.artifacts.onnx_graph import Graph, Node, behind, plain_name
from detparity.core.vocabulary import ConvWeights

UNFOLDED = frozenset(("BatchNormalization", "Mul", "Add"))
CONVOLUTIONS = ("Conv", "FusedConv")  # the second is ONNX Runtime's own, of the same inputs
PASSING = ("Identity", "Cast")
MOSTLY = 0.5  # share of its numbers, from which on a tensor in 8 bits is one of the model's
FLOAT, INTEGERS = 1, (2, 3, 4, 5, 6, 7, 9, 12, 13)  # of onnx.TensorProto
STORED_AS = {"float16": "float16", "bfloat16": "bfloat16", "int8": "8 bits", "uint8": "8 bits"}


@dataclass(frozen=True)
class Stored:
    """A convolution as the file has it; bias None where it has none; node None for TorchScript; unfolded: whether something
    after it could be the batch-norm or the implicit factor that was not folded in; rounded: "float16", "bfloat16" or "8 bits" where
    the file stores it so; step, bias_step: distances of two neighbouring values of those quantised, as the tensor broadcasts them."""

    name: str
    weight: np.ndarray
    bias: Optional[np.ndarray]
    node: Optional[Node] = None
    unfolded: bool = False
    rounded: str = ""
    step: Optional[np.ndarray] = None
    bias_step: Optional[np.ndarray] = None


@dataclass(frozen=True)
class _Tensor:
    """A constant in float32, how the file stores it, and the name under which."""

    name: str
    value: np.ndarray
    rounded: str = ""
    step: Optional[np.ndarray] = None


class _Constants:
    """The constants of a graph behind operators that only pass on, convert or dequantise them."""

    def __init__(self, graph: Graph) -> None:
        self._graph, self._constants, self._producers = graph, graph.constants, graph.producers()

    def tensor(self, name: str) -> Optional[_Tensor]:
        found = self._stored(name)
        return replace(found, value=np.trunc(found.value)) if found is not None and self._cut(name) else found

    def _cut(self, name: str) -> bool:
        """Whether a tensor becomes integers before it is read."""
        seen: Set[str] = set()
        while name not in seen and name in self._producers and self._producers[name].op in PASSING:
            node = self._producers[name]
            if node.op == "Cast" and node.number("to", FLOAT) in INTEGERS:
                return True
            seen.add(name)
            name = node.first
        return False

    def _stored(self, name: str) -> Optional[_Tensor]:
        start, name = name, behind(name, self._graph, self._producers, PASSING)
        node = self._producers.get(name)
        value = self._constants.get(name)
        if value is not None and value.dtype.kind in "fV":
            rounded = STORED_AS.get(str(value.dtype), "")
            return _Tensor(start, value.astype(np.float32) if rounded else value, rounded)
        if node is not None and node.op == "DequantizeLinear" and len(node.inputs) > 1:
            zero = node.inputs[2] if len(node.inputs) > 2 else ""
            axis = node.number("axis", 1)
            return None if math.isnan(axis) else self.quantised(node.inputs[0], node.inputs[1], zero, int(axis))
        return None

    def quantised(self, name: str, scale: str, zero: str, axis: int = 0) -> Optional[_Tensor]:
        """A constant of integers times its scale, which is one number or one along an axis."""
        value, scales = self._constants.get(name), self._constants.get(scale)
        if value is None or scales is None or value.dtype.kind not in "iu":
            return None
        point = self._constants.get(zero, np.zeros((), value.dtype))
        shape = [-1 if k == axis % value.ndim else 1 for k in range(value.ndim)] if scales.size > 1 else []
        if scales.size > 1 and (value.ndim == 0 or scales.size != value.shape[axis % value.ndim]):
            return None
        scales = scales.astype(np.float64).reshape(shape)
        point = point.astype(np.float64).reshape(shape if point.size > 1 else [])
        dequantised = ((value.astype(np.float64) - point) * scales).astype(np.float32)
        return _Tensor(name, dequantised, STORED_AS.get(str(value.dtype), ""), np.abs(scales))


def onnx_convs(graph: Graph) -> List[Stored]:
    """The convolutions of a graph whose weights are constants, in its order; those of 8 bits with their weights dequantised."""
    constants, consumers = _Constants(graph), graph.consumers()
    found = []
    for node in graph.nodes:
        pair = _operands(constants, node)
        if pair is not None and pair[0].value.ndim == 4:
            weight, bias = pair
            after = {reader.op for name in node.outputs for reader in consumers.get(name, [])}
            value = None if bias is None or bias.value.ndim != 1 else bias.value
            unfolded = bool(after & UNFOLDED)
            steps = (weight.step, None if bias is None else bias.step)
            found.append(Stored(weight.name, weight.value, value, node, unfolded, weight.rounded, *steps))
    return found


def _operands(constants: _Constants, node: Node) -> Optional[Tuple[_Tensor, Optional[_Tensor]]]:
    """Weight and bias of a convolution, where its weight is constant."""
    given = list(node.inputs)
    if node.op in CONVOLUTIONS and node.domain in ("", "com.microsoft") and len(given) > 1:
        weight = constants.tensor(given[1])
        return None if weight is None else (weight, constants.tensor(given[2]) if len(given) > 2 else None)
    if node.op == "QLinearConv" and len(given) > 7:
        weight = constants.quantised(given[3], given[4], given[5])
        return None if weight is None else (weight, None)
    if node.op == "ConvInteger" and len(given) > 1:
        return _integer_weight(constants, given)
    return None


def _integer_weight(constants: _Constants, given: Sequence[str]) -> Optional[Tuple[_Tensor, Optional[_Tensor]]]:
    """The weight of a ConvInteger, whose scale is multiplied in later: the constant of the same name with `_scale`, as ONNX
    Runtime's quantiser writes it."""
    stem = given[1][: -len("_quantized")] if given[1].endswith("_quantized") else given[1]
    weight = constants.quantised(given[1], f"{stem}_scale", given[3] if len(given) > 3 else "")
    return None if weight is None else (weight, None)


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
    """The file's convolutions by the index of the model's whose official name they bear; those of another shape left out."""
    return {
        index: found
        for index, found in named(expected, stored).items()
        if found.weight.shape == expected[index].weight.shape
    }


def named(expected: Sequence[ConvWeights], stored: Sequence[Stored]) -> Dict[int, Stored]:
    """The same, whatever their shapes."""
    found: Dict[int, Stored] = {}
    plain = {plain_name(s.name.replace("_quantized", "")): s for s in stored}
    for index, conv in enumerate(expected):
        official = f"{conv.key}.weight"
        hits = [s for name, s in plain.items() if name == official or name.endswith("." + official)]
        if len(hits) == 1:
            found[index] = hits[0]
    return found


def by_content(expected: Sequence[ConvWeights], indices: Sequence[int], stored: Sequence[Stored]) -> Dict[int, Stored]:
    """Those of the model at `indices` with the nearest of the same shape, where any is near, or of 8 bits mostly the same."""
    found: Dict[int, Stored] = {}
    left = list(stored)
    for index in indices:
        conv = expected[index]
        same = [s for s in left if s.weight.shape == conv.weight.shape]
        if same:
            best = min(same, key=lambda s: _distance(s.weight, conv.weight))
            if _distance(best.weight, conv.weight) >= 0.1:
                best = max(same, key=lambda s: _share_stored(s, conv.weight))
                if _share_stored(best, conv.weight) < MOSTLY:
                    continue
            found[index] = best
            left = [one for one in left if one is not best]
    return found


def _share_stored(found: Stored, expected: np.ndarray) -> float:
    """The share of a tensor's numbers that are those expected, rounded to 8 bits."""
    return 0.0 if found.step is None else float((np.abs(found.weight - expected) <= found.step).mean())


def _distance(found: np.ndarray, expected: np.ndarray) -> float:
    """Largest difference as a share of the largest expected value; infinite where shapes differ or a value is NaN."""
    if found.shape != expected.shape:
        return float("inf")
    scale = max(float(np.abs(expected).max()), 1e-30)
    worst = float(np.abs(found.astype(np.float64) - expected).max()) / scale
    return worst if np.isfinite(worst) else float("inf")
