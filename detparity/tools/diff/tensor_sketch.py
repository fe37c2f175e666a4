"""A tensor in a few characters: enough to estimate later, from two of them alone, how far two tensors differ and how.

A sketch holds inner products of the tensor with vectors of random signs, as shares of its length. The mean square of the
products of a difference is the square of the difference's length, give or take (Johnson and Lindenstrauss), and a tensor that
was only multiplied keeps its shares.
"""

from __future__ import annotations

import base64
import math
from dataclasses import dataclass
from typing import List, Optional, Sequence, Tuple

import numpy as np

PRODUCTS = 8  # one sign a bit of a random byte
SCALE = 2.0**28  # products are stored as 32-bit integers: to 4e-9 of the tensor's length, and up to 8 times it
RESOLUTION = 1e-8  # a relative change below this cannot be distinguished from none
_BLOCK = 1 << 20


@dataclass(frozen=True)
class Sketch:
    """rms: root mean square of the values, NaN or infinite where they are not all finite; shares: the products divided by the
    tensor's length (the root of the sum of squares), empty where that is zero or not finite."""

    rms: float
    shares: Tuple[float, ...]


def sketch(value: np.ndarray) -> Sketch:
    """Sketch an array of real numbers. The signs depend on its shape alone."""
    # PCG64's raw stream never changes between versions of numpy, unlike what Generator makes of it.
    stream = np.random.PCG64(np.random.SeedSequence([value.ndim, *value.shape]))
    flat, bins, square = value.reshape(-1), np.zeros(256), 0.0
    with np.errstate(all="ignore"):
        for start in range(0, flat.size, _BLOCK):
            block = flat[start : start + _BLOCK].astype(np.float64)
            words = stream.random_raw((block.size + 7) // 8).astype("<u8")
            bins += np.bincount(words.view(np.uint8)[: block.size], weights=block, minlength=256)
            square += float(np.dot(block, block))
    rms = math.sqrt(square / flat.size) if flat.size and square >= 0 else math.nan if flat.size else 0.0
    length = math.sqrt(square) if square >= 0 else math.nan
    if not (math.isfinite(length) and length):
        return Sketch(rms, ())
    signs = np.unpackbits(np.arange(256, dtype=np.uint8)[:, None], axis=1) * 2.0 - 1.0
    return Sketch(rms, tuple(math.fsum(bins * signs[:, k]) / length for k in range(PRODUCTS)))


def packed(shares: Sequence[float]) -> str:
    """As text: 4 bytes for each product, in base64; `-` for none."""
    integers = np.clip(np.rint(np.asarray(shares, np.float64) * SCALE), -(2**31) + 1, 2**31 - 1)
    return base64.b64encode(integers.astype("<i4").tobytes()).decode().rstrip("=") or "-"


def unpacked(text: str) -> Tuple[float, ...]:
    """What `packed` packed, to its precision."""
    if text == "-":
        return ()
    padded = text + "=" * (-len(text) % 4)
    return tuple(float(number) / SCALE for number in np.frombuffer(base64.b64decode(padded), "<i4"))


@dataclass(frozen=True)
class Change:
    """How a tensor changed. relative: the length of the difference as a share of the old length, None where that is
    unknown; factor: where it was only multiplied, by what."""

    relative: Optional[float]
    factor: Optional[float] = None


def change(old: Sketch, new: Sketch, precision: float = 1e-6) -> Change:
    """Estimate from two sketches of one shape how the second tensor differs from the first.

    precision: the relative rounding of the tensors' type, within which a multiplied tensor keeps its shares.
    """
    if not (old.shares and math.isfinite(new.rms)):
        return Change(None)
    ratio = new.rms / old.rms
    pairs: List[Tuple[float, float]] = list(zip(old.shares, new.shares or (0.0,) * len(old.shares)))
    relative = _rms([now * ratio - was for was, now in pairs])
    for sign in (1.0, -1.0):
        blur = _rms([now * sign - was for was, now in pairs]) if new.shares else math.inf
        factor = sign * ratio
        if blur < precision and blur < abs(factor - 1) / 10:
            return Change(abs(factor - 1), factor)
    return Change(relative)


def _rms(values: Sequence[float]) -> float:
    return math.sqrt(sum(value * value for value in values) / len(values))
