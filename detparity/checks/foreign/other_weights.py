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


def other_weights(context: ForeignContext, case: Case) -> Optional[Finding]:
    """A finding where weights of an ONNX file are nearly those of the model, or none is one of them; None where they are, or where
    they are not known."""
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
        f"{len(off)} of {len(known)} weights that are nearly the model's and differ: first {off[0][1]}, by {number(100 * off[0][2])} %"
        if off
        else f"the weights of another training: none of {len(known)} is the model's"
    )
    return Finding(
        f"stores {what}.",
        (("in the file", "in the model", "off by"), *rows),
        headed=True,
        notes=(f"At {case} it chooses otherwise than the model, so that its numbers are not compared one by one.",),
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
    batch-norm and factors may be folded in. most: numbers of a channel that are compared, 0 for all."""
    return min(_scaled(value, own, most), _scaled(value.swapaxes(0, 1), own.swapaxes(0, 1), most))


def _scaled(value: np.ndarray, own: np.ndarray, most: int) -> float:
    one, other = (np.asarray(side.reshape(len(side), -1)[:, : most or None], np.float64) for side in (value, own))
    scale = (one * other).sum(1) / np.maximum((other**2).sum(1), 1e-300)
    error = float(((one - scale[:, None] * other) ** 2).sum())
    return float(np.sqrt(error / max(float((one**2).sum()), 1e-300)))
