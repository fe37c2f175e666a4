"""How one array differs from another of the same shape, exactly."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Optional, Tuple

import numpy as np

from detparity.core.text import number

SCALED = 1e-6  # of a tensor's length: what float32 rounding leaves of a tensor that was only multiplied


@dataclass(frozen=True)
class Apart:
    """count: how many values differ; largest: the largest difference, infinite where one of the two values is not finite; rms:
    root mean square of the differences of all values; relative: the same as a share of the old values' rms, None where that is
    zero or not finite; position, old, new: of the largest difference."""

    count: int
    largest: float
    rms: float
    relative: Optional[float]
    position: Tuple[int, ...]
    old: float
    new: float


def apart(old: np.ndarray, new: np.ndarray) -> Optional[Apart]:
    """Compare two arrays of real numbers of one shape, of any types. None where every value is the same; a NaN is the
    same as a NaN."""
    was, now = old.astype(np.float64), new.astype(np.float64)
    differs = ~((was == now) | (np.isnan(was) & np.isnan(now)))
    if not differs.any():
        return None
    with np.errstate(all="ignore"):
        gap = np.where(differs, np.abs(now - was), 0.0)
        gap[np.isnan(gap)] = np.inf
        rms, before = float(np.sqrt(np.mean(gap**2))), float(np.sqrt(np.mean(was**2)))
    position = tuple(int(k) for k in np.unravel_index(int(gap.argmax()), gap.shape))
    relative = rms / before if np.isfinite([rms, before]).all() and before else None
    return Apart(
        int(differs.sum()), float(gap[position]), rms, relative, position, float(was[position]), float(now[position])
    )


def happened(old: np.ndarray, new: np.ndarray, found: Apart) -> str:
    """What was done to a tensor, where it can be identified; else where its values moved furthest."""
    was, now = old.astype(np.float64), new.astype(np.float64)
    at = f"{found.old:.9g} -> {found.new:.9g} at {list(found.position)}"
    if found.count == 1:
        return at if was.size == 1 else f"{at}, the other {was.size - 1} as they were"
    if not np.isfinite(now).all():
        return f"{int((~np.isfinite(now)).sum())} of {now.size} values are not finite"
    zeroed = int(((now == 0) & (was != 0)).sum())
    if zeroed == found.count:
        return "set to zero" if not now.any() else f"{zeroed} of {now.size} values set to zero"
    if found.relative is not None:
        factor = float((was * now).sum() / (was * was).sum())
        blur = float(np.sqrt(np.mean((now - factor * was) ** 2)))
        if blur < SCALED * found.rms / found.relative and blur < found.rms / 10:
            return f"multiplied by {factor:.8g}"
    half = old.astype(np.float16) if old.dtype.itemsize > 2 else old
    if np.array_equal(half.astype(np.float64), now):
        return "rounded to float16"
    if np.array_equal(np.sort(was, axis=None), np.sort(now, axis=None)):
        return "the same values in another order"
    return (
        f"{found.count} of {now.size} values, most {number(found.old)} -> {number(found.new)} at {list(found.position)}"
    )
