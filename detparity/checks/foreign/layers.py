"""The smallest error in each weight of the model that a verdict on a file of any detector would have seen.

One weight at a time is scaled, and what the model then gives is measured as the file is: in float32, as a file with that error would
be run, or in float64, of half precision, whose noise is far larger than that of float32. An error is stated when it has been run.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from functools import partial
from typing import Any, Callable, Dict, List, Mapping, Optional, Sequence, Set, Tuple

import numpy as np

from detparity.checks.foreign.context import ForeignContext
from detparity.checks.foreign.parity import DECLARED
from detparity.checks.foreign.truth import CaseTruth, paired
from detparity.core.case import Case
from detparity.core.errors import EngineDied, EngineError, InputError
from detparity.core.findings import CannotRun
from detparity.core.precision import FLOAT32
from detparity.core.text import listed
from detparity.core.vocabulary import Arrays
from detparity.models.reference import EXACT, CannotRunReference
from detparity.oracle.noise_floor import STATISTICS, Stats, limit
from detparity.oracle.output_floor import Group, measure, tables_of

FIRST = 1e-3  # relative error that is tried first
MOST = 1.0  # the largest one: a weight of twice its size
RUNS = 8  # of the model, for one weight: two where it acts linearly
NEAR = 1.25  # times a limit: an error that reaches no more is the smallest that is seen
AIM = 1.1  # times a limit, that the next run is to reach
FURTHEST = 100.0  # times that an error grows or shrinks from one run to the next
UNKNOWN = (CannotRunReference, CannotRun, EngineError, EngineDied, InputError)
Progress = Callable[[int, int], None]


@dataclass(frozen=True)
class Layers:
    """seen: relative error by weight, in the order they are read; count: how many weights the model reads; blind: what is not known,
    or not seen, as a report lists it."""

    seen: Mapping[str, float]
    count: int
    blind: Tuple[str, ...] = ()


def smallest_by_weight(context: ForeignContext, most: int, progress: Progress) -> Layers:
    """Of `most` weights, evenly spread in the order they are read. progress: called with the number of each and their count."""
    reference: Any = context.oracle.reference
    if not hasattr(reference, "run_scaled"):
        return _unknown("what the model gave is stored, and not the model")
    try:
        with context.clock.running():
            names: List[str] = reference.weights_read(context.oracle.taken(context.given(context.declared)))
        if not names:
            return _unknown("it holds none that can be changed")
        scaled = _Scaled(context, _shown(context))
        if not scaled.compares:
            return _unknown("nothing is selected on any of the declared pictures")
        return _measured(scaled, names, most, progress)
    except UNKNOWN as error:  # a verdict stands without this
        return _unknown(str(error)[:200])


def _unknown(why: str) -> Layers:
    return Layers({}, 0, (f"which error in a weight of the model is seen: {why}",))


def _measured(scaled: _Scaled, names: Sequence[str], most: int, progress: Progress) -> Layers:
    picked = np.unique(np.linspace(0, len(names) - 1, min(most, len(names))).round().astype(int))
    seen: Dict[str, float] = {}
    unseen: List[str] = []
    error, unscaled = FIRST, scaled.share(names[0], 0.0)
    if not math.isfinite(unscaled):
        return _unknown("the model itself chooses otherwise in float32")
    for number, index in enumerate(picked, 1):
        progress(number, len(picked))
        found = smallest(partial(scaled.share, names[index]), error, unscaled)
        if found is not None:
            seen[names[index]] = error = found
        elif names[index] not in scaled.chosen:
            unseen.append(names[index])
    blind = []
    if unseen:
        blind.append(f"an error of up to {MOST:.0%} in {_of(unseen, len(picked))}")
    others = [name for name in names if name in scaled.chosen and name not in seen]
    if others:
        what = "what the model chooses from changes before any number that comes out"
        blind.append(f"which error is seen in {_of(others, len(picked))}: {what}")
    return Layers(seen, len(names), tuple(blind))


def _of(some: Sequence[str], count: int) -> str:
    return f"{len(some)} of {count} weights that were scaled ({listed(some, 3)})"


def smallest(share: Callable[[float], float], start: float, unscaled: float = 0.0) -> Optional[float]:
    """An error that reaches a limit, within `NEAR` of it where that is found; None where `MOST` does not. share: the largest statistic
    of a run with an error, as a share of its limit; start: the error that is tried first; unscaled: the share of a run without."""
    low, high, seen, error = 0.0, math.inf, math.inf, start
    for _ in range(RUNS):
        found = share(error)
        if found >= 1.0:
            high = error
            seen = error if math.isfinite(found) else seen
        else:
            low = error
        if 1.0 <= found <= NEAR or low >= MOST:
            break
        error = _next(error, found, unscaled)
        if not low < error < high:
            error = math.sqrt(low * high) if low else high / FURTHEST
        error = min(error, MOST)
    return seen if math.isfinite(seen) else None


def _next(error: float, found: float, unscaled: float) -> float:
    """The error that would reach `AIM` if it acted linearly beside the noise of the unscaled run, which adds up as squares do."""
    if not math.isfinite(found):
        return error / FURTHEST
    own = math.sqrt(max(found**2 - unscaled**2, 0.0))
    factor = math.sqrt(AIM**2 - min(unscaled, 1.0) ** 2) / max(own, 1e-9)
    return error * min(max(factor, 1 / FURTHEST), FURTHEST)


def _shown(context: ForeignContext) -> Case:
    """The declared case; of a selection, of the three that are judged the one from which most rows come."""
    if not context.layout.selected:
        return context.declared
    others = context.declared.pictures[1:]
    cases = [Case(context.contract.size, ((kind, 0), *others)) for kind in DECLARED]
    return max(cases, key=lambda case: _rows(context.chosen_truth(case)))


def _rows(truth: CaseTruth) -> int:
    return sum(len(next(iter(image.tables.values()), ())) for image in truth.images)


class _Scaled:
    """Runs of one case with a weight scaled, measured against floors of all float32 ways, under the choices of the file that the model
    can be given. chosen: weights with an error under which other rows come out, or the choices can no longer be given."""

    def __init__(self, context: ForeignContext, case: Case) -> None:
        self._context = context
        self._truth = context.chosen_truth(case)
        while context.grow(case, self._truth):
            pass
        left = {one.node for one in self._truth.unmatched()}
        self._choices = tuple(one for one in self._truth.choices if one.node not in left)
        self._images = context.oracle.taken(context.given(case))
        self._floors = [_usable(image.floor()) for image in self._truth.images]
        self.chosen: Set[str] = set()
        self._how = FLOAT32 if context.contract.precision == FLOAT32 else EXACT
        self.compares = any(group.of(one.tables).size for one in self._truth.images for group in one.groups)

    def share(self, name: str, error: float) -> float:
        """The largest statistic as a share of its limit; infinite where other shapes or other rows come out."""
        reference: Any = self._context.oracle.reference
        with self._context.clock.running():
            outputs = reference.run_scaled(self._how, (name, 1.0 + error), self._images, self._choices)
        found = self._of(self._context.named(outputs)) if outputs else math.inf
        if not math.isfinite(found):
            self.chosen.add(name)
        return found

    def _of(self, outputs: Arrays) -> float:
        layout, largest = self._context.layout, 0.0
        if not layout.selected and any(outputs[name].shape != one.shape for name, one in self._truth.outputs.items()):
            return math.inf
        for index, (image, floor) in enumerate(zip(self._truth.images, self._floors)):
            found = tables_of(layout, outputs, index)
            mine, yours, apart = paired(image.tables, found, layout, floor)
            if apart > len(next(iter(image.tables.values()), ())):  # of twice as many: most rows are others
                return math.inf
            stats = measure(mine, yours, list(floor))
            largest = max([largest, *(_share(one, floor[group], group.of(mine).size) for group, one in stats.items())])
        return largest


def _usable(floor: Mapping[Group, Stats]) -> Dict[Group, Stats]:
    """Without groups in which float32 itself overflows, where nothing can be judged."""
    return {group: stats for group, stats in floor.items() if math.isfinite(stats.max)}


def _share(stats: Stats, floor: Stats, count: int) -> float:
    if not count:
        return 0.0
    found = [getattr(stats, name) / getattr(floor, name) / limit(name, count) for name in STATISTICS]
    return max(one if math.isfinite(one) else math.inf for one in found)
