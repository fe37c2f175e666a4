"""How far float32 itself is from the truth, and whether an artifact is further away than that.

The truth is the model in float64. The floor is the error of the same model in float32, run in equivalent ways. Errors are
measured by unit and by level, because a pixel of width and a probability cannot be compared. docs/tolerance.md describes how the
multiples were calibrated.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Dict, List, Mapping, Sequence, Tuple, Union

import numpy as np

from detparity.core.vocabulary import Arrays, ModelFacts, Size
from detparity.oracle.decode import Levels, decode

# Columns of a prediction by unit group.
GROUPS: Mapping[str, slice] = {"xy": slice(0, 2), "wh": slice(2, 4), "objectness": slice(4, 5), "class": slice(5, None)}
UNITS: Mapping[str, Mapping[str, str]] = {
    "grid": {"xy": "px", "wh": "px", "objectness": "probability", "class": "probability"},
    "raw": {"xy": "logit", "wh": "logit", "objectness": "logit", "class": "logit"},
}
STATISTICS = ("rms", "max", "bias", "gain")
# How many floors each statistic may measure; calibrated in docs/tolerance.md.
LIMITS: Mapping[str, float] = {"rms": 4.0, "max": 8.0, "bias": 6.0, "gain": 6.0}
EPS32 = 2.0**-23
POOLED = 1.0
# Root mean square error of a float32 sigmoid, whatever its value: ONNX Runtime's was measured at 2e-8 to 4e-8 from -20 to 20 (torch
# is as far off near 1 and closer near 0). Where an image leaves no other noise, this is what a correct file differs by.
SIGMOID = 2.0**-25
SIGMOID_MOST = 3 * 2.0**-24  # its largest error: ONNX Runtime's was measured at 1.76e-7 from -20 to 20, torch's at 9e-8
SYSTEMATIC = 0.3
SMALL_SAMPLE = 8.0
Key = Tuple[int, str]  # level, group


@dataclass(frozen=True)
class Stats:
    """Errors of one group on one level, all in its unit.

    bias: root mean square over the columns of their mean error; gain: the part of the error that is proportional to the value
    (slope of the error over the value, times the spread of the values).
    """

    rms: float
    max: float
    bias: float
    gain: float


@dataclass(frozen=True)
class Truth:
    """The float64 predictions for one image, level by level (rows, fields), and the noise floor of each group."""

    levels: Tuple[np.ndarray, ...]
    floor: Mapping[Key, Stats]
    head: str
    size: Size


@dataclass(frozen=True)
class Pair:
    """The middle of two float32 runs of the model on one image, level by level, and how far one is from the other: the truth need not
    be known to see that a file is within its limits. size: of the image."""

    levels: Tuple[np.ndarray, ...]
    apart: Mapping[Key, Stats]
    head: str
    size: Size


@dataclass(frozen=True)
class Excess:
    """One statistic of one group on one level that lies over its limit, which is in floors."""

    level: int
    group: str
    statistic: str
    error: float
    floor: float
    limit: float

    @property
    def floors(self) -> float:
        return self.error / self.floor


def split_levels(head: str, facts: ModelFacts, size: Size, outputs: Arrays, image: int) -> Tuple[np.ndarray, ...]:
    """Cut the outputs for one image of a batch into (rows, fields) arrays, one per level, rows in order anchor, row, column.

    outputs: in the order of the contract; `grid` has one (B, rows, fields), `raw` one (B, na, ny, nx, fields) per level.
    """
    arrays = list(outputs.values())
    if head == "grid":
        edges = np.cumsum(facts.level_rows(size))[:-1]
        return tuple(np.split(arrays[0][image], edges))
    return tuple(array[image].reshape(-1, facts.fields) for array in arrays)


def make_truth(
    head: str,
    facts: ModelFacts,
    size: Size,
    exact: Sequence[np.ndarray],
    ways: Sequence[Arrays],
    least: float = EPS32,
) -> Truth:
    """Assemble the truth for one image.

    exact: float64 logits per level, (na, ny, nx, fields); ways: outputs of the equivalent runs with this head, batch 1; least: the
    error of a number, in parts of it, that is allowed for at least.
    """
    levels, slopes, gains = levels_of(head, facts, exact)
    floor = floor_of(levels, slopes, gains, [split_levels(head, facts, size, run, 0) for run in ways], least)
    return Truth(levels, floor, head, size)


def levels_of(head: str, facts: ModelFacts, exact: Sequence[np.ndarray]) -> Tuple[Levels, Levels, Levels]:
    """The values of a head for one image's float64 logits, with their two sensitivities, as `decode` has them."""
    if head == "grid":
        return decode(facts, exact)
    levels = tuple(logits.reshape(-1, facts.fields) for logits in exact)
    return levels, tuple(map(np.ones_like, levels)), tuple(map(np.zeros_like, levels))


def measure(truth_levels: Sequence[np.ndarray], levels: Sequence[np.ndarray]) -> Dict[Key, Stats]:
    """Error statistics of `levels` against the truth, by (level, group). NaN anywhere gives infinite errors."""
    found: Dict[Key, Stats] = {}
    for index, (truth, values) in enumerate(zip(truth_levels, levels)):
        error = values - truth
        rows = len(truth)
        centred = truth - truth.mean(0)
        total, squares = error.sum(0), np.einsum("ij,ij->j", error, error)
        slope, spread = np.einsum("ij,ij->j", error, centred), np.einsum("ij,ij->j", centred, centred)
        largest = np.maximum(error.max(0), -error.min(0))
        for group, columns in GROUPS.items():
            count = rows * len(squares[columns])
            found[index, group] = Stats(
                _finite(np.sqrt(squares[columns].sum() / count)),
                _finite(largest[columns].max()),
                _finite(np.sqrt(((total[columns] / rows) ** 2).mean())),
                _finite(abs(slope[columns].sum()) / np.sqrt(max(spread[columns].sum(), 1e-300) * count)),
            )
    return found


def _finite(value: float) -> float:
    return float(value) if np.isfinite(value) else float("inf")


def floor_of(
    truth_levels: Sequence[np.ndarray],
    slopes: Sequence[np.ndarray],
    gains: Sequence[np.ndarray],
    ways: Sequence[Sequence[np.ndarray]],
    least: float = EPS32,
) -> Dict[Key, Stats]:
    """The largest error of any of the float32 ways of running the reference, by statistic, with four lower bounds:

    a few roundings of the values themselves and the error of a sigmoid, so that constant images do not divide by nearly nothing;
    what the average logit noise of this image causes there, because a level of three cells is too small a sample of its own; and
    for bias and gain `SYSTEMATIC` of the root mean square, because the systematic part of rounding is not repeatable.

    slopes, gains: derivative of each number by its logit and by the sigmoid of it, as the levels.
    """
    measured = [measure(truth_levels, levels) for levels in ways]
    logit = _logit_noise(slopes, [[v - t for v, t in zip(levels, truth_levels)] for levels in ways])
    found: Dict[Key, Stats] = {}
    for index, (truth, slope, gain) in enumerate(zip(truth_levels, slopes, gains)):
        for group, columns in GROUPS.items():
            key = (index, group)
            seen = {name: max(getattr(stats[key], name) for stats in measured) for name in STATISTICS}
            values, sensitivity = truth[:, columns], logit * np.abs(slope[:, columns])
            sigmoid = SIGMOID * np.abs(gain[:, columns])
            rms = max(seen["rms"], least * _rms(values), POOLED * _rms(sensitivity), _rms(sigmoid))
            largest = max(
                seen["max"], 2 * least * np.abs(values).max(), 2 * POOLED * sensitivity.max(), 2 * sigmoid.max(), rms
            )
            found[key] = Stats(
                rms, float(largest), max(seen["bias"], SYSTEMATIC * rms), max(seen["gain"], SYSTEMATIC * rms)
            )
    return found


def larger(one: Mapping[Key, Stats], other: Mapping[Key, Stats]) -> Dict[Key, Stats]:
    """The floor of the ways of two floors together. Every part of `floor_of` is a maximum over the ways, as this is."""
    return {
        key: Stats(*(max(getattr(stats, name), getattr(other[key], name)) for name in STATISTICS))
        for key, stats in one.items()
    }


def _rms(values: np.ndarray) -> float:
    return float(np.sqrt((values**2).mean()))


def _logit_noise(slopes: Sequence[np.ndarray], errors: Sequence[Sequence[np.ndarray]]) -> float:
    """Root mean square error in logits of the noisiest run, over all levels and groups that a logit moves."""
    weight = sum(float((slope[:, 4:] ** 2).sum()) for slope in slopes)
    noisiest = max(sum(float((error[:, 4:] ** 2).sum()) for error in run) for run in errors)
    return float(np.sqrt(noisiest / max(weight, 1e-300)))


def limit(statistic: str, count: int) -> float:
    """How many floors `statistic` of `count` numbers may measure. A few numbers estimate their own spread poorly, so
    the limit widens as the sample shrinks: by 1 % at 640x640, to 2.2 times at 48 numbers."""
    return LIMITS[statistic] * (1.0 + SMALL_SAMPLE / float(np.sqrt(count)))


def make_pair(head: str, facts: ModelFacts, size: Size, one: Arrays, other: Arrays) -> Pair:
    """Two runs with this head, batch 1."""
    mine, theirs = (
        tuple(values.astype(np.float64) for values in split_levels(head, facts, size, run, 0)) for run in (one, other)
    )
    return Pair(tuple((a + b) / 2 for a, b in zip(mine, theirs)), measure(mine, theirs), head, size)


def surely_within(pair: Pair, levels: Sequence[np.ndarray]) -> bool:
    """Whether these values are within every limit, whatever the truth is; False says nothing.

    Were the truth known, the floor would be at least the error of either run; what a file may then be away from the middle of the two
    follows from how far apart they are (docs/tolerance.md has the proof).
    """
    for key, stats in measure(pair.levels, levels).items():
        allowed = _allowed(pair.apart[key], count_of(pair, key))
        if not all(getattr(stats, name) <= allowed[name] for name in ("rms", "max", "bias")):
            return False
        if stats.rms > allowed["any gain"] and not stats.gain < _gain_allowed(pair, key, stats.rms):
            return False
    return True


def _allowed(apart: Stats, count: int) -> Dict[str, float]:
    """How far from the middle of two runs a file may be, by statistic, with d = half of what they are apart and L = the limit.

    With the middle m away from the truth, the file is at most m + f away. By the triangle inequality the floor is at least m, and at
    least any lower bound b of it, so f may be (L - 1) b. A root mean square is a length, and of two ends of a segment one is at least
    sqrt(m^2 + d^2) from any point: f may be sqrt(L^2 - 1) d. `gain` is at most the root mean square, and its floor is at least
    `SYSTEMATIC` of that: "any gain" is how far that may be, whatever the direction of `gain`.
    """
    limits = {name: limit(name, count) for name in STATISTICS}
    rms = apart.rms / 2
    rms_length, bias_length = (float(np.sqrt(limits[name] ** 2 - 1.0)) for name in ("rms", "bias"))
    return {
        "rms": rms_length * rms,
        "max": (limits["max"] - 1.0) * max(apart.max / 2, rms),
        "bias": max((limits["bias"] - 1.0) * SYSTEMATIC * rms, bias_length * apart.bias / 2),
        "any gain": float(np.sqrt((SYSTEMATIC * limits["gain"]) ** 2 - 1.0)) * rms,
    }


def _gain_allowed(pair: Pair, key: Key, rms: float) -> float:
    """How large `gain` along the middle of two runs may be, of a file whose root mean square distance from it is `rms`.

    `gain` counts along the values of the truth. With the middle m away from it and its values spread by s, the two directions differ
    by 2 m / s at most, so that along the truth it is at most 2 m rms / s more. As its floor is at least `SYSTEMATIC` of
    sqrt(m^2 + d^2), the least that is left of that, over all m, is allowed.
    """
    share = (limit("gain", count_of(pair, key)) - 1.0) * SYSTEMATIC
    spread = float(np.sqrt(pair.levels[key[0]][:, GROUPS[key[1]]].var(0).mean()))
    if 2.0 * rms >= share * spread:
        return 0.0
    return float(np.sqrt(share**2 - (2.0 * rms / spread) ** 2)) * pair.apart[key].rms / 2


def count_of(truth: Union[Truth, Pair], key: Key) -> int:
    """How many numbers this group has on this level."""
    return int(truth.levels[key[0]][:, GROUPS[key[1]]].size)


def excesses(truth: Truth, found: Mapping[Key, Stats]) -> List[Excess]:
    """Every statistic over its limit, worst first."""
    over: List[Excess] = []
    for key, stats in found.items():
        for name in STATISTICS:
            allowed = limit(name, count_of(truth, key))
            excess = Excess(*key, name, getattr(stats, name), getattr(truth.floor[key], name), allowed)
            if not excess.floors <= allowed:
                over.append(excess)
    return sorted(over, key=lambda excess: -excess.floors / excess.limit)
