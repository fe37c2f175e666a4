"""The interval of a median, whatever the distribution, and the resolution of a ratio of times."""

from __future__ import annotations

import math
from typing import Tuple

import numpy as np

CONFIDENCE = 0.95


# How far all of the interval must be from 1 before one of two is reported as faster; benchmarks/test_same.py calibrates it.
RESOLUTION = 0.04


def median_interval(values: np.ndarray) -> Tuple[float, float]:
    """The interval of the median of (n,) values that holds it with `CONFIDENCE` at least, whatever their distribution.

    The k-th smallest of n exceeds the median when fewer than k values are below it, and that count is binomial with one half: the
    interval of the sign test. Raises ValueError below six values, of which even the extremes do not hold it surely enough.
    """
    count, outside = len(values), 0.0
    ordered = np.sort(values)
    rank = 0
    for below in range(count // 2):
        outside += math.comb(count, below) / 2.0**count
        if 2 * outside > 1 - CONFIDENCE:
            break
        rank = below + 1
    if not rank:
        raise ValueError(f"{count} values give no interval of {CONFIDENCE:.0%}; six do")
    return float(ordered[rank - 1]), float(ordered[count - rank])
