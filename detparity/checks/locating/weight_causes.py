"""Causes in the weights of one convolution: the model's own are tried in their stead, and compared with the file's."""

from __future__ import annotations

from typing import Iterator, Optional, Sequence, Tuple

import numpy as np

from detparity.checks.locating.relations import Cause
from detparity.core.trace import Trace

Weights = Tuple[np.ndarray, np.ndarray]  # (output channels, ...) and one bias for each
SAME = 1e-5  # of the largest, for two weights that are one
EPSILONS = (1e-3, 1e-4, 1e-5, 1e-6, 1e-12, 0.0)
NEAR = 0.3  # of a weight, that another epoch changes at the most


def of_model(trace: Trace, numbers: Sequence[int]) -> Optional[Tuple[Weights, Sequence[Weights]]]:
    """Weights of the convolution among these steps, with the batch-norm that follows it folded in; and the same with that norm's
    epsilon another. None where they hold no convolution, or several."""
    convolutions = [n for n in numbers if n in trace.weights and trace.steps[n].operator == "convolution"]
    norms = [n for n in numbers if n in trace.weights and "batch_norm" in trace.steps[n].operator]
    if len(convolutions) != 1 or len(norms) > 1:
        return None
    weight, *rest = trace.weights[convolutions[0]]
    bias = rest[0] if rest else np.zeros(len(weight))
    if not norms:
        return (weight, bias), ()
    gamma, beta, mean, variance, epsilon = trace.weights[norms[0]]
    if len(gamma) != len(weight):
        return None

    def folded(small: float) -> Weights:
        factor = gamma / np.sqrt(variance + small)
        return weight * factor.reshape(-1, *[1] * (weight.ndim - 1)), (bias - mean) * factor + beta

    return folded(float(epsilon)), [folded(one) for one in EPSILONS if one != float(epsilon)]


def cause(file: Weights, model: Weights, others: Sequence[Weights]) -> Cause:
    """What differs, once the model's weights were found to explain everything."""
    for kind, sentence, fix in _differences(file, model, others):
        return Cause(kind, sentence, fix)
    weight, right = file[0], model[0]
    rows = weight.reshape(len(weight), -1), right.reshape(len(right), -1)
    error = np.sqrt(np.mean((rows[0] - rows[1]) ** 2) / max(float(np.mean(rows[1] ** 2)), 1e-300))
    some = _wrong(file, model)
    what = f"{100 * error:.3g} % of them, in {len(some)} of {len(weight)} channels"
    near = ", as those of another epoch or of its EMA do" if error < NEAR else ""
    return Cause("other weights", f"its weights are not the model's: they differ by {what}{near}", FIX)


FIX = "Export the checkpoint that the file is compared with: its `ema` where it holds one, of the same epoch, loaded without rounding."


def _differences(file: Weights, model: Weights, others: Sequence[Weights]) -> Iterator[Tuple[str, str, str]]:
    weight, bias = file
    right, term = model
    if any(_same(weight, one) and _same(bias, two) for one, two in others):
        yield (
            "batch-norm folded otherwise",
            "its batch-norm was folded with another epsilon",
            "Fold with the model's own epsilon.",
        )
    if _same(weight, right):
        some = _listed(_wrong((bias[:, None], bias), (term[:, None], term)), len(bias))
        lost = not bias.any()
        yield ("bias lost", "it has no bias", FIX) if lost else ("bias", f"{some}: another bias", FIX)
    if weight.shape != right.shape:
        return
    with np.errstate(over="ignore"):
        if np.array_equal(weight, right.astype(np.float16)):
            yield "weights rounded to float16", "its weights are rounded to float16", FIX
    wrong = _wrong(file, model)
    rows, rights = weight.reshape(len(weight), -1), right.reshape(len(right), -1)
    if wrong and not rows[wrong].any():
        yield "weights of channels lost", f"{_listed(wrong, len(rows))}: no weights", FIX
    match = [next((j for j in wrong if _same(rows[k], rights[j])), None) for k in wrong]
    if len(wrong) > 1 and None not in match and len(set(match)) == len(wrong):
        yield (
            "weights permuted",
            f"{_listed(wrong, len(rows))}: weights in another order",
            "Export channels in the model's order.",
        )
    factors = [float(rows[k] @ rights[k]) / max(float(rights[k] @ rights[k]), 1e-300) for k in wrong]
    if wrong and all(_same(rows[k], factor * rights[k]) for k, factor in zip(wrong, factors)):
        shown = ", ".join(f"{one:.4g}" for one in factors[:4])
        fix = "Compare how batch-norm, implicit layers and scales were folded into this convolution."
        yield "weights of channels scaled", f"{_listed(wrong, len(rows))}: weights multiplied by {shown}", fix


def _same(one: np.ndarray, other: np.ndarray) -> bool:
    largest = float(np.abs(other).max(initial=0.0))
    return one.shape == other.shape and bool(np.abs(one - other).max(initial=0.0) <= SAME * max(largest, 1e-30))


def _wrong(file: Weights, model: Weights) -> Sequence[int]:
    return [k for k in range(len(file[0])) if not _same(file[0][k], model[0][k])]


def _listed(channels: Sequence[int], of: int) -> str:
    if len(channels) <= 4:
        return f"channel {', '.join(map(str, channels))}"
    return f"{len(channels)} of {of} channels"
