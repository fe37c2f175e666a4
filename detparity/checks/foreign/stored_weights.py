"""The convolutions that a file of lower precision stores, against those of its model, which may be any module."""

from __future__ import annotations

from typing import Any, Callable, Dict, Iterator, List, Mapping, Optional, Tuple

import numpy as np

from detparity.artifacts.conv_weights import Stored, onnx_convs
from detparity.checks.foreign.context import ForeignContext
from detparity.checks.precision import _is_onnx
from detparity.checks.weights import SUBNORMAL, TOLERANCE
from detparity.core.contract import MUST
from detparity.core.findings import CannotRun, Check, Finding, Row
from detparity.core.precision import EPSILON, FLOAT32, HALVES
from detparity.core.text import number
from detparity.models.reference import CannotRunReference

SAME = 0.5  # share of its numbers that are the model's, from which on a tensor is one of the model's
# Spacings of half precision that a number may be off: batch-norm may be folded in half precision, which rounds six times.
SPACINGS = 3
STEPS = 1.01  # of 8 bits: a quantiser may round up or down
LEAST = 16  # numbers of a tensor, under which another may be near by chance


def weights(context: ForeignContext) -> Iterator[Finding]:
    """Stored weights are the model's, rounded to what the file stores them in. Those of no tensor of the model are not compared: an
    exporter may merge layers."""
    ask: Optional[Callable[[], Dict[str, np.ndarray]]] = getattr(context.oracle.reference, "weights", None)
    if ask is None:
        raise CannotRun("the weights of its model are not known", hides=False)
    stored = [one for one in onnx_convs(context.onnx.graph) if one.rounded and one.weight.size >= LEAST]
    try:
        expected = ask()
    except CannotRunReference as error:
        raise CannotRun(f"the weights of its model are not known: {error}") from None
    pairs = [(one, *_nearest(one, expected)) for one in stored]
    found = [(one, name, fits) for one, name, fits in pairs if fits.mean() >= SAME]
    if not found:
        raise CannotRun(f"none of its {len(stored)} convolutions is one of the model's", hides=False)
    rows: List[Row] = []
    for one, name, fits in found:
        if not fits.all():
            off = np.abs(one.weight.astype(np.float64) - expected[name])[~fits].max() / np.abs(expected[name]).max()
            channels = int((~fits).reshape(len(fits), -1).any(1).sum())
            count = f"{int((~fits).sum())} of {fits.size} in {channels} of {len(fits)} channels"
            rows.append((name, count, f"{number(float(off))} of its largest value"))
    if rows:
        yield Finding(
            f"stores {len(rows)} of {len(found)} convolutions with other numbers than the model's, rounded once: first {rows[0][0]}, "
            f"{rows[0][1]}.",
            tuple(rows[:8]),
            notes=(
                "Numbers were rounded to less before they were stored, or are read by another scale than they were stored by.",
            ),
            evidence={"tensors": [row[0] for row in rows]},
        )


def _nearest(one: Stored, expected: Mapping[str, np.ndarray]) -> Tuple[str, np.ndarray]:
    """The tensor of the model of which most numbers are stored here, and which are."""
    same = [(name, value) for name, value in expected.items() if value.shape == one.weight.shape]
    compared = [(name, _fits(one, value)) for name, value in same]
    return max(compared, key=lambda pair: float(pair[1].mean()), default=("", np.zeros(1, bool)))


def _fits(one: Stored, expected: np.ndarray) -> np.ndarray:
    slack = TOLERANCE * float(np.abs(expected).max(initial=0.0))
    error = np.abs(one.weight.astype(np.float64) - expected)
    if one.rounded in HALVES:
        allowed = np.maximum(SPACINGS * EPSILON[one.rounded] * np.abs(expected), SUBNORMAL[one.rounded])
        return np.asarray(error <= allowed + slack)
    step = np.asarray(one.step if one.step is not None else 0.0)
    cut = (np.abs(one.weight) >= 126.5 * step) & (np.abs(expected) >= np.abs(one.weight)) & (one.weight * expected > 0)
    return np.asarray((error <= STEPS * step + slack) | cut)


def _lower_onnx(contract: Any) -> bool:
    return bool(contract.precision != FLOAT32 and _is_onnx(contract))


CHECKS: Tuple[Check, ...] = (
    Check(
        "precision.weights",
        MUST,
        "Weights of lower precision are the model's, rounded once.",
        weights,
        _lower_onnx,
    ),
)
