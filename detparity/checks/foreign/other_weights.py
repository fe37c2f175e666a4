"""Whether a file stores other weights than its model: what decides where its choices cannot be matched with the model's.

It is no check of its own: an exporter may merge layers, whose weights are then none of the model's, and the numbers decide. Where they
cannot be compared, a weight that is nearly one of the model's is no merged one.
"""

from __future__ import annotations

from typing import Any, Callable, Dict, Iterator, List, Mapping, Optional, Tuple

import numpy as np

from detparity.checks.foreign.context import ForeignContext
from detparity.core.case import Case
from detparity.core.findings import Finding, Row
from detparity.core.text import number
from detparity.models.reference import CannotRunReference

READERS = ("Conv", "ConvTranspose", "Gemm", "MatMul")  # operators whose second operand is a weight
SAME = 1e-4  # root mean square of what a weight may be off, of its own: folding in float32 moves it by 1e-7
NEARLY = 0.5  # under which two weights are those of one layer: of unrelated ones it is 1
LEAST = 16  # numbers of a channel, under which its scale says little
FEW = 4  # weights of the model's shapes, from which on it shows that none is the model's
SAMPLE = 4096  # numbers by which the nearest of the model's is found


def other_weights(context: ForeignContext, case: Case, why: str) -> Optional[Finding]:
    """A finding where weights of an ONNX file are nearly those of the model, or none is one of them; None where they are, or where
    they are not known. why: the numbers of this case cannot be compared."""
    ask: Optional[Callable[[], Dict[str, np.ndarray]]] = getattr(context.oracle.reference, "weights", None)
    if ask is None or context.artifact.kind != "onnx":
        return None
    try:
        model = {name: value for name, value in ask().items() if value.ndim >= 2 and value.size}
    except CannotRunReference:
        return None
    compared = [(name, *_nearest(value, model)) for name, value in _weights(context)]
    known = [one for one in compared if one[1]]
    off = [one for one in known if SAME < one[2] < NEARLY]
    none = len(known) >= FEW and not any(distance <= SAME for *_, distance in known)
    if not off and not none:
        return None
    rows: List[Row] = [(name, own, f"{number(100 * distance)} % of it") for name, own, distance in (off or known)[:8]]
    what = (
        f"{len(off)} of {len(known)} weights with other numbers than the model's: first {off[0][1]}, {number(100 * off[0][2])} % off"
        if off
        else f"the weights of another training: none of {len(known)} is the model's"
    )
    return Finding(
        f"stores {what}.",
        (("in the file", "in the model", "off by"), *rows),
        headed=True,
        notes=(f"Its numbers at {case} were not compared: {why}.",),
        evidence={"case": case, "weights": [name for name, *_ in off or known]},
    )


def _weights(context: ForeignContext) -> Iterator[Tuple[str, np.ndarray]]:
    """The constant weights of its layers in float32, those whose channels have few numbers left out."""
    seen = set()
    constants = context.onnx.graph.constants
    for node in context.onnx.graph.walk():
        name = node.inputs[1] if node.op in READERS and len(node.inputs) > 1 else ""
        value = constants.get(name)
        if value is None or name in seen or value.ndim < 2 or value.dtype != np.float32:
            continue
        seen.add(name)
        if value.size >= LEAST * max(value.shape[:2]):
            yield name, value


def _nearest(value: np.ndarray, model: Mapping[str, np.ndarray]) -> Tuple[str, float]:
    """The tensor of the model that this is nearest to, in either order of two axes, and how far it is off; "" where none has its
    shape."""
    found: List[Tuple[float, str, Any]] = []
    for name, own in model.items():
        for other in (own, own.T) if own.ndim == 2 else (own,):
            if other.shape == value.shape:
                found.append((_distance(value, other, SAMPLE), name, other))
    if not found:
        return "", 1.0
    _, name, own = min(found, key=lambda one: one[0])
    return name, _distance(value, own)


def _distance(value: np.ndarray, own: np.ndarray, most: int = 0) -> float:
    """Root mean square of the difference, of the weight's own, with each channel of the first or the second axis scaled to fit:
    batch-norm and factors may be folded in. A kernel without its middle counts as well: what is added there alone is a branch that
    was merged (RepVGG). most: numbers of a channel that are compared, 0 for all."""
    pairs = [(value, own)]
    if value.ndim == 4 and min(value.shape[2:]) > 2:
        pairs.append((_around(value), _around(own)))
    both = [pair for one, other in pairs for pair in ((one, other), (one.swapaxes(0, 1), other.swapaxes(0, 1)))]
    return min(_scaled(one, other, most) for one, other in both)


def _around(kernel: np.ndarray) -> np.ndarray:
    """The numbers of kernels but for the one in their middle."""
    taps = kernel.reshape(*kernel.shape[:2], -1)
    return np.delete(taps, taps.shape[2] // 2, 2)


def _scaled(value: np.ndarray, own: np.ndarray, most: int) -> float:
    one, other = (np.asarray(side.reshape(len(side), -1)[:, : most or None], np.float64) for side in (value, own))
    scale = (one * other).sum(1) / np.maximum((other**2).sum(1), 1e-300)
    error = float(((one - scale[:, None] * other) ** 2).sum())
    return float(np.sqrt(error / max(float((one**2).sum()), 1e-300)))
