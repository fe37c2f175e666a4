"""Which tensor of a file is which tensor of the model: by values, within noise, in any order of axes."""

from __future__ import annotations

import itertools
from dataclasses import dataclass, field
from typing import Dict, Iterator, List, Mapping, Optional, Sequence, Tuple

import numpy as np

from detparity.core.trace import Trace
from detparity.oracle.noise_floor import EPS32, LIMITS

Order = Optional[Tuple[int, ...]]  # axes of the model's tensor in the file's order; None: as it lies in memory
PROBE = 64  # numbers compared before all are
MOST_AXES = 5
CHOICE = 1024.0  # roundings


@dataclass(frozen=True)
class Noise:
    """What rounding does to one tensor: root mean square and largest error."""

    rms: float
    largest: float

    def allows(self, found: np.ndarray, expected: np.ndarray) -> bool:
        """Whether two tensors are one, within the limits of docs/tolerance.md."""
        with np.errstate(invalid="ignore", over="ignore"):
            error = found - expected
        rms, largest = self.limits(expected)
        return bool(_rms(error) <= rms and np.abs(error).max(initial=0.0) <= largest)

    def limits(self, expected: np.ndarray) -> Tuple[float, float]:
        return self.bounds(_rms(expected), float(np.abs(expected).max(initial=0.0)))

    def bounds(self, rms: float, largest: float) -> Tuple[float, float]:
        """For a tensor of these: root mean square and largest error that are noise."""
        return LIMITS["rms"] * max(self.rms, EPS32 * rms), LIMITS["max"] * max(self.largest, EPS32 * largest)


def noise_of(exact: Mapping[str, np.ndarray], rounded: Mapping[str, np.ndarray]) -> Dict[str, Noise]:
    """What the precision of `rounded` does to each tensor. A difference of over `CHOICE` roundings comes of another choice, at a near
    tie, and not of rounding."""
    found = {}
    for name, value in exact.items():
        if name in rounded and rounded[name].shape == value.shape and value.size:
            with np.errstate(invalid="ignore", over="ignore"):
                error = np.abs(rounded[name].astype(np.float64) - value)
            error = error[np.isfinite(error)]
            usual = CHOICE * float(np.finfo(rounded[name].dtype).eps)
            largest = float(error.max(initial=0.0))
            found[name] = Noise(min(_rms(error), usual * _rms(value)), min(largest, usual * float(np.abs(value).max())))
    return found


def _rms(values: np.ndarray) -> float:
    return float(np.sqrt(np.mean(np.square(values)))) if values.size else 0.0


@dataclass(frozen=True)
class Sketch:
    """What no order of axes changes: mean, root mean square, least and largest."""

    mean: float
    rms: float
    low: float
    high: float

    @property
    def largest(self) -> float:
        return max(abs(self.low), abs(self.high))

    def near(self, other: Sketch, rms: float, largest: float) -> bool:
        return (
            abs(self.mean - other.mean) <= rms
            and abs(self.rms - other.rms) <= rms
            and abs(self.low - other.low) <= largest
            and abs(self.high - other.high) <= largest
        )


def sketch(values: np.ndarray) -> Sketch:
    return Sketch(float(values.mean()), _rms(values), float(values.min()), float(values.max()))


@dataclass(frozen=True)
class Match:
    """value: number of the model's tensor; order: of its axes in the file; shape: there."""

    value: int
    order: Order = None
    shape: Tuple[int, ...] = ()


@dataclass
class Index:
    """The tensors of a trace by how many numbers they hold."""

    trace: Trace
    by_size: Dict[int, List[int]] = field(default_factory=dict)
    sketches: Dict[int, Sketch] = field(default_factory=dict)

    def __post_init__(self) -> None:
        for number, value in enumerate(self.trace.values):
            if value.size > 1 and np.isfinite(value).all():
                self.by_size.setdefault(value.size, []).append(number)
                self.sketches[number] = sketch(value)

    def matches(self, found: np.ndarray, noise: Noise) -> List[Match]:
        """The model's tensors that this one is; none for one that says nothing."""
        if found.size < 2 or not np.isfinite(found).all() or float(np.ptp(found)) == 0.0:
            return []
        mine = sketch(found)
        result = []
        for number in self.by_size.get(found.size, ()):
            theirs = self.sketches[number]
            limits = noise.bounds(theirs.rms, theirs.largest)
            if mine.near(theirs, *limits):
                order = self._order(found, self.trace.values[number], noise, limits[1])
                result += [Match(number, one, found.shape) for one in order]
        return result

    def _order(self, found: np.ndarray, value: np.ndarray, noise: Noise, largest: float) -> List[Order]:
        flat = found.reshape(-1)
        for axes in (None, *_orders(value.shape)):
            moved = value if axes is None else value.transpose(axes)
            probe = np.abs(moved.flat[:PROBE] - flat[:PROBE]).max() <= largest
            if probe and noise.allows(flat, moved.reshape(-1)):
                return [axes]
        return []

    def laid(self, match: Match) -> np.ndarray:
        """A tensor of the model as the file has it."""
        value = self.trace.values[match.value]
        value = value if match.order is None else value.transpose(match.order)
        return np.ascontiguousarray(value.reshape(match.shape))


def _orders(shape: Sequence[int]) -> Iterator[Tuple[int, ...]]:
    """Orders of axes that differ in memory from the one there is."""
    long = [axis for axis, count in enumerate(shape) if count > 1]
    if len(long) < 2 or len(long) > MOST_AXES:
        return
    rest = [axis for axis in range(len(shape)) if axis not in long]
    for order in itertools.permutations(long):
        if list(order) != long:
            yield (*rest, *order)
