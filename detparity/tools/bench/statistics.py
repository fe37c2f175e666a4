"""Statistics of times: quantiles of one series, and the ratio of two with an interval that assumes no distribution."""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np

from detparity.core.statistics import RESOLUTION, median_interval


@dataclass(frozen=True)
class Summary:
    """Seconds of one call. Quantiles are runs that were measured (nearest rank): of fewer than 100 runs, p99 is the slowest."""

    runs: int
    min: float
    median: float
    p90: float
    p99: float


def summary(seconds: np.ndarray) -> Summary:
    """Summarise (n,) seconds. Raises ValueError for an empty series."""
    if not len(seconds):
        raise ValueError("no runs to summarise")
    ordered = np.sort(seconds)

    def rank(share: float) -> float:
        return float(ordered[max(math.ceil(share * len(ordered)), 1) - 1])

    return Summary(len(ordered), float(ordered[0]), float(np.median(ordered)), rank(0.9), rank(0.99))


@dataclass(frozen=True)
class Ratio:
    """middle: median of the ratios round by round; low, high: its interval; rounds: how many ratios there are."""

    middle: float
    low: float
    high: float
    rounds: int

    @property
    def differs(self) -> bool:
        """Whether one of the two is reported as faster: all of the interval is further from 1 than two copies of one file are."""
        return self.low > 1.0 + RESOLUTION or self.high < 1.0 / (1.0 + RESOLUTION)


def ratio(seconds: np.ndarray, baseline: np.ndarray) -> Ratio:
    """The ratio of two interleaved (n,) series: what slowed a round down slowed both, and leaves the ratio as it is.

    Raises ValueError for series of other lengths, or fewer than the six rounds an interval takes.
    """
    if seconds.shape != baseline.shape:
        raise ValueError(f"series of {len(seconds)} and {len(baseline)} rounds are not of one interleaved run")
    ratios = seconds / baseline
    low, high = median_interval(ratios)
    return Ratio(float(np.median(ratios)), low, high, len(ratios))
