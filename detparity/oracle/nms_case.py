"""What a certificate of NMS is about: tolerances, detections, candidates, and how each is described."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Dict, Tuple, Union

import numpy as np
import numpy.typing as npt

from detparity.core.errors import InputError
from detparity.oracle.boxes import Floats, corners
from detparity.oracle.nms import Candidates, Ints, NmsRule, class_scores

Mask = npt.NDArray[np.bool_]


# A score at its threshold may be evaluated on either side of it in float32: four roundings of the threshold.
FLOAT32_SCORE = 2.0**-22


# Neighbouring float32 numbers lie no further apart than this part of their size.
FLOAT32_SPACING = 2.0**-23


# Pairs of boxes compared at once: bounds the memory of a comparison, not its result.
PAIRS = 2**18


# Detections of one image judged one by one where more than the cap are given (which is a breach by itself).
JUDGED = 1000


@dataclass(frozen=True, eq=False)
class Tolerance:
    """Absolute noise bounds: `box` in pixels per corner coordinate, a scalar or one per row, (rows,) or
    (batch, rows) (noise of d_xy in a centre and d_wh in a size moves a corner by d_xy + d_wh / 2); `score`
    of the score; `iou_slack` in pixels, moved additionally while boxes are compared. Raises InputError for
    a bound that is negative or not finite."""

    box: Union[float, Floats]
    score: float
    iou_slack: float = 0.0

    def __post_init__(self) -> None:
        for name, bound in (("box", self.box), ("score", self.score), ("iou_slack", self.iou_slack)):
            values = np.asarray(bound, dtype=np.float64)
            if not (np.isfinite(values).all() and (values >= 0).all()):
                raise InputError(f"the {name} tolerance must be finite and not negative")


@dataclass(frozen=True, eq=False)
class Detections:
    """Detections of one image in the order given: boxes (n, 4) corners in pixels, scores (n,), classes
    (n,) and positions (n,), the index in the output by which messages name each. Raises InputError for other
    shapes."""

    boxes: Floats
    scores: Floats
    classes: Floats
    positions: Ints

    def __post_init__(self) -> None:
        n = len(self.positions)
        shapes = (self.boxes.shape, self.scores.shape, self.classes.shape, self.positions.shape)
        if shapes != ((n, 4), (n,), (n,), (n,)):
            raise InputError(f"boxes, scores, classes and positions do not belong together: shapes {shapes}")


@dataclass(frozen=True)
class Breach:
    """One fact that no movement within the noise makes good: a stable kind, one sentence, the numbers."""

    kind: str
    sentence: str
    facts: Dict[str, object]


@dataclass(frozen=True)
class NearTies:
    """How many facts of one image only a margin made good. Kinds: 'overlap' (retained pairs), 'suppression',
    'cap', 'threshold' and 'prefilter' (candidates left out), 'class' (rows reported with another class
    than the best), 'order' (detections after one that scores less)."""

    kind: str
    image: int
    count: int


@dataclass(frozen=True)
class Certificate:
    """The verdict: breaches (none: accepted) and the near ties that margins decided."""

    breaches: Tuple[Breach, ...]
    near_ties: Tuple[NearTies, ...]

    @property
    def accepted(self) -> bool:
        return not self.breaches


@dataclass(frozen=True, eq=False)
class Pool:
    """Every (row, class) of one image that noise may make a candidate.

    `best` (K,) is the score that noise lowers to find the least an entry can have as a candidate: a row
    reported with any class scores as its best class does, within noise. `move` (K,) is the box tolerance in
    pixels. `slots` (K,) is what can be reported once: the row or, with several classes a row, the entry
    itself.
    """

    entries: Candidates
    best: Floats
    move: Floats
    slots: Ints

    def take(self, chosen: npt.NDArray[np.generic]) -> Pool:
        return Pool(self.entries.take(chosen), self.best[chosen], self.move[chosen], self.slots[chosen])

    def ranking(self) -> Floats:
        """Best scores of all slots, ascending."""
        _, first = np.unique(self.slots, return_index=True)
        return np.sort(self.best[first])


@dataclass(frozen=True, eq=False)
class Case:
    """One image under judgement."""

    image: int
    given: Detections
    pool: Pool
    rule: NmsRule
    tolerance: Tolerance

    def name(self, index: int) -> str:
        given = self.given
        return f"detection {given.positions[index]} " + describe(
            given.boxes[index], given.classes[index], given.scores[index]
        )

    def breach(self, kind: str, index: int, predicate: str, **facts: object) -> Breach:
        """A breach whose subject is a detection."""
        given = self.given
        own: Dict[str, object] = {
            "image": self.image,
            "place": int(given.positions[index]),
            "box": numbers(given.boxes[index]),
            "class": float(given.classes[index]),
            "score": float(given.scores[index]),
        }
        return Breach(kind, f"Image {self.image}: {self.name(index)} {predicate}.", {**own, **facts})


def pool_of(predictions: Floats, move: Floats, rule: NmsRule, score_tolerance: float) -> Pool:
    scores = class_scores(predictions)
    floor = rule.score_threshold - score_tolerance - score_rounding(rule)
    finite = np.asarray(np.isfinite(predictions).all(axis=1))
    rows, classes = np.nonzero((scores >= floor) & finite[:, None])
    entry_scores = scores[rows, classes]
    if not rule.best_class:
        entries = Candidates(rows, corners(predictions[rows, :4]), entry_scores, classes)
        return Pool(entries, entry_scores, move[rows], np.arange(len(rows)))
    best = scores.max(axis=1)[rows]
    legal = entry_scores >= best - 2 * score_tolerance
    rows, classes, entry_scores, best = rows[legal], classes[legal], entry_scores[legal], best[legal]
    return Pool(Candidates(rows, corners(predictions[rows, :4]), entry_scores, classes), best, move[rows], rows)


def score_rounding(rule: NmsRule) -> float:
    return FLOAT32_SCORE * abs(rule.score_threshold)


def reported_move(case: Case) -> Floats:
    """Pixels (n,) by which a reported box may differ from the one that the engine compared."""
    largest = np.abs(case.given.boxes).max(axis=1, initial=0.0)
    return np.asarray(case.tolerance.iou_slack + FLOAT32_SPACING * largest)


def integral(values: Floats, limit: int) -> Mask:
    """Which values are integers from 0 to limit - 1."""
    return np.asarray((values >= 0) & (values < limit) & (values == np.floor(values)))


def describe(box: Floats, label: float, score: float) -> str:
    sides = " ".join(f"{value:.6g}" for value in box)
    return f"(box [{sides}], class {label:g}, score {score:.6g})"


def numbers(values: Floats) -> Tuple[float, ...]:
    return tuple(float(value) for value in values)
