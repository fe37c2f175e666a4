"""Noise floors of outputs with any layout: by output, level and field, the same statistics and limits as `noise_floor`.

docs/tolerance.md: the limits were calibrated on the home family and hold for the others as they are.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Dict, List, Mapping, Optional, Sequence, Tuple

import numpy as np

from detparity.core.layout import CLASS, COLUMN, OTHER, PROBABILITY, SCORE, Field, Layout, fields_of, levels, table
from detparity.core.vocabulary import Size
from detparity.oracle.noise_floor import EPS32, SIGMOID, STATISTICS, SYSTEMATIC, Stats, limit
from detparity.oracle.row_matching import matched

Tables = Mapping[str, np.ndarray]  # (rows, columns) of one image, by output
LARGEST = float(np.finfo(np.float32).max)
LEAST_CLASS = 0.25  # class numbers are whole: a row that differs by less is of the same class


@dataclass(frozen=True)
class Group:
    """Numbers of one unit that are judged together: of an output, the rows of a level (stride 0: all), the columns of a field."""

    output: str
    stride: int
    first: int
    last: int
    field: Field

    @property
    def name(self) -> str:
        return f"{self.output} {self.field.name}" + (f", stride {self.stride}" if self.stride else "")

    def of(self, tables: Tables) -> np.ndarray:
        return tables[self.output][self.first : self.last, self.field.start : self.field.stop]


@dataclass(frozen=True)
class Excess:
    """One statistic of a group over its limit, which is in floors; row and column of the largest error in its table."""

    group: Group
    statistic: str
    error: float
    floor: float
    limit: float
    row: int
    column: int
    value: float
    truth: float

    @property
    def floors(self) -> float:
        return self.error / self.floor


@dataclass(frozen=True)
class Measured:
    """What a float32 run or a file gives against the truth. stats: by group; unmatched: of a selection, rows that match none of the
    other's, as (rows of the truth, rows of what was judged)."""

    stats: Mapping[Group, Stats]
    unmatched: Tuple[Tuple[int, ...], Tuple[int, ...]] = ((), ())


def tables_of(layout: Layout, outputs: Mapping[str, np.ndarray], image: int) -> Dict[str, np.ndarray]:
    """One image of all outputs as float64 tables; rows that a selection left empty (score 0 and nothing else) are dropped."""
    found = {
        name: table(one, np.asarray(array, np.float64), image)
        for one, (name, array) in zip(layout.outputs, outputs.items())
    }
    if not layout.selected or not found:
        return found
    used = np.zeros(min(map(len, found.values())), bool)
    for values in found.values():
        used |= np.any(values[: len(used)] != 0, axis=1)
    return {name: values[: len(used)][used] for name, values in found.items()}


def groups_of(layout: Layout, tables: Tables, size: Size) -> List[Group]:
    """The groups of one image's tables. A selection has no levels: any row may come from any."""
    found = []
    for one, (name, values) in zip(layout.outputs, tables.items()):
        rows = [(0, 0, len(values))] if layout.selected else levels(len(values), size)
        for field in fields_of(one, values.shape[1]):
            found += [Group(name, stride, first, last, field) for stride, first, last in rows]
    return found


def measure(truth: Tables, found: Tables, groups: Sequence[Group]) -> Dict[Group, Stats]:
    """Error statistics by group; what is not finite on one side alone gives infinite errors."""
    stats = {}
    for group in groups:
        one, other = _in_range(group.of(truth)), group.of(found)
        both = ~(np.isfinite(one) | np.isfinite(other)) & ((one == other) | (np.isnan(one) & np.isnan(other)))
        with np.errstate(invalid="ignore"):
            stats[group] = _stats(np.where(both, 0.0, one), np.where(both, 0.0, other - one))
    return stats


def _in_range(values: np.ndarray) -> np.ndarray:
    """Numbers as float32 can hold them: beyond its range they are infinite there, in a correct file too."""
    return np.where(np.abs(values) > LARGEST, np.copysign(np.inf, values), values)


def _stats(values: np.ndarray, error: np.ndarray) -> Stats:
    if not values.size:
        return Stats(0.0, 0.0, 0.0, 0.0)
    centred = values - values.mean(0)
    spread = float(np.sqrt((centred**2).sum()))
    slope = float(np.abs((error * centred).sum())) / max(spread, 1e-300)
    found = (
        float(np.sqrt((error**2).mean())),
        float(np.abs(error).max()),
        float(np.sqrt((error.mean(0) ** 2).mean())),
        slope / float(np.sqrt(values.size)),
    )
    return Stats(*(value if np.isfinite(value) else float("inf") for value in found))


def floor_of(
    truth: Tables, ways: Sequence[Mapping[Group, Stats]], groups: Sequence[Group], least: float = EPS32
) -> Dict[Group, Stats]:
    """The largest error of any equivalent run, by statistic, with the lower bounds of `noise_floor.floor_of` that need no decode:
    roundings of the values (`least`, in parts of them), the error of a sigmoid where the values are probabilities, and `SYSTEMATIC`
    for bias and gain."""
    found = {}
    for group in groups:
        values = _in_range(group.of(truth))
        values = values[np.isfinite(values)]
        seen = {name: max((getattr(one[group], name) for one in ways), default=0.0) for name in STATISTICS}
        largest = float(np.abs(values).max(initial=0.0))
        bound = SIGMOID if is_probability(group.field, values) else 0.0
        scale = float(np.sqrt((values**2).mean())) if values.size else 0.0
        rms = max(seen["rms"], least * scale, bound, 1e-300)
        most = max(seen["max"], 2 * least * largest, 2 * bound, rms)
        found[group] = Stats(rms, most, max(seen["bias"], SYSTEMATIC * rms), max(seen["gain"], SYSTEMATIC * rms))
    return _pooled(truth, found)


def _pooled(truth: Tables, floor: Mapping[Group, Stats]) -> Dict[Group, Stats]:
    """Columns of an unknown meaning are small samples, each a group of its own: those of one output and level that hold numbers of one
    size share their noise, as the columns of a known field do."""
    classes: Dict[Tuple[object, ...], List[Group]] = {}
    for group in floor:
        if group.field.role == OTHER and group.field.name.startswith(COLUMN):
            values = group.of(truth)
            values = values[np.isfinite(values)]
            size = int(np.log2(np.sqrt((values**2).mean()) + 1e-30) // 2) if values.size else 0
            key = (group.output, group.stride, is_probability(group.field, values), size)
            classes.setdefault(key, []).append(group)
    found = dict(floor)
    for groups in classes.values():
        rms = float(np.sqrt(np.mean([floor[group].rms ** 2 for group in groups])))
        most = max(floor[group].max for group in groups)
        for group in groups:
            own = floor[group]
            least = SYSTEMATIC * rms
            found[group] = Stats(max(own.rms, rms), max(own.max, most), max(own.bias, least), max(own.gain, least))
    return found


def is_probability(field: Field, values: np.ndarray) -> bool:
    """Whether numbers are probabilities: by their unit or, where that is not known, by their range."""
    if field.unit == PROBABILITY:
        return True
    return bool(values.size) and bool(values.min() >= 0.0) and bool(values.max() <= 1.0)


def excesses(truth: Tables, found: Tables, stats: Mapping[Group, Stats], floor: Mapping[Group, Stats]) -> List[Excess]:
    """Every statistic over its limit, worst first."""
    over = []
    for group, measured in stats.items():
        count = group.of(truth).size
        if not count:
            continue
        for name in STATISTICS:
            allowed = limit(name, count)
            error, base = getattr(measured, name), getattr(floor[group], name)
            if (
                np.isfinite(base) and not error / base <= allowed
            ):  # where float32 itself overflows, nothing can be judged
                row, column = _worst(group.of(truth), group.of(found))
                own, other = float(group.of(found)[row, column]), float(group.of(truth)[row, column])
                over.append(Excess(group, name, error, base, allowed, group.first + row, column, own, other))
    return sorted(over, key=lambda excess: -excess.floors / excess.limit)


def _worst(one: np.ndarray, other: np.ndarray) -> Tuple[int, int]:
    with np.errstate(invalid="ignore"):
        error = np.abs(other - one)
    error[~np.isfinite(error)] = np.inf
    row, column = np.unravel_index(int(error.argmax()), error.shape)
    return int(row), int(column)


def in_order_of(
    truth: Tables, found: Tables, layout: Layout, slack: Mapping[str, float]
) -> Tuple[Tables, Tables, Measured]:
    """The rows of a selection, paired: each row with one of the other within `slack` by field name.

    Returns the paired rows of both and what was left over (`Measured.unmatched`).
    """
    one, other = _joined(truth), _joined(found)
    limits = _limits(truth, layout, slack)
    pairs = matched(one, other, limits)
    mine, yours = (np.array([pair[side] for pair in pairs], int) for side in (0, 1))
    left = tuple(
        tuple(int(row) for row in range(count) if row not in set(used.tolist()))
        for count, used in ((len(one), mine), (len(other), yours))
    )
    paired = [
        {name: values[rows] for name, values in tables.items()} for tables, rows in ((truth, mine), (found, yours))
    ]
    return paired[0], paired[1], Measured({}, (left[0], left[1]))


@dataclass(frozen=True)
class Descent:
    """A row of a selection whose score is lower than that of the next one; both scores."""

    index: int
    scores: Tuple[float, float]


def out_of_order(layout: Layout, truth: Tables, found: Tables, floor: Mapping[Group, Stats]) -> Optional[Descent]:
    """The first row that a row of a higher score follows, beyond near ties, in a selection whose truth is in order of score."""
    for group, stats in floor.items() if layout.selected else ():
        if group.field.role != SCORE or group.of(truth).shape[1:] != (1,):
            continue
        slack = 2 * stats.max
        scores = [tables[group.output][:, group.field.start] for tables in (truth, found)]
        rises = [np.flatnonzero(np.diff(one) > slack) for one in scores]
        if not len(rises[0]) and len(rises[1]):
            index = int(rises[1][0])
            return Descent(index, (float(scores[1][index]), float(scores[1][index + 1])))
    return None


def _joined(tables: Tables) -> np.ndarray:
    return np.concatenate(list(tables.values()), axis=1) if tables else np.zeros((0, 0))


def _limits(tables: Tables, layout: Layout, slack: Mapping[str, float]) -> np.ndarray:
    """For each joined column, how far two rows may differ there and be the same row."""
    found = []
    for one, values in zip(layout.outputs, tables.values()):
        for field in fields_of(one, values.shape[1]):
            width = len(range(values.shape[1])[field.start : field.stop])
            found += [LEAST_CLASS if field.role == CLASS else slack.get(field.name, 0.0)] * width
    return np.array(found)
