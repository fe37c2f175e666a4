"""Average precision in plain numpy: how good detections are, given the true objects.

Per class and IoU threshold, over all images together. Detections are taken by falling score; each is a true positive where a true
object of its image and class, not yet taken, overlaps it by at least the threshold (the one that overlaps most), else a false
positive. Precision at a recall is the best at that recall or beyond, and AP its mean over the true objects (all-point
interpolation). Of exactly equal scores the false positives count first, so that the order of rows does not matter.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Callable, FrozenSet, List, Optional, Sequence, Set, Tuple

import numpy as np
import numpy.typing as npt

from detparity.core.errors import InputError
from detparity.oracle.boxes import Floats, iou_bounds, pairwise_iou
from detparity.oracle.nms import Ints

THRESHOLDS: Tuple[float, ...] = tuple(k / 100 for k in range(50, 100, 5))
Mask = npt.NDArray[np.bool_]


@dataclass(frozen=True, eq=False)
class Objects:
    """True objects of one image: boxes (n, 4) corners in pixels, classes (n,). Raises InputError for other shapes."""

    boxes: Floats
    classes: Ints

    def __post_init__(self) -> None:
        if self.boxes.shape != (len(self.classes), 4) or self.classes.ndim != 1:
            raise InputError(f"boxes {self.boxes.shape} and classes {self.classes.shape} do not belong together")


@dataclass(frozen=True, eq=False)
class Detected:
    """Detections of one image in any order: boxes (n, 4) corners in pixels, scores (n,), classes (n,); moves: pixels (n,) that
    noise may move each corner coordinate of a box by, which only `bounds` reads. Raises InputError for other shapes and for a score
    that is not a number."""

    boxes: Floats
    scores: Floats
    classes: Ints
    moves: Optional[Floats] = None

    def __post_init__(self) -> None:
        shapes = (self.boxes.shape, self.scores.shape, self.classes.shape)
        n = len(self.classes)
        if shapes != ((n, 4), (n,), (n,)) or (self.moves is not None and self.moves.shape != (n,)):
            raise InputError(f"boxes, scores and classes do not belong together: shapes {shapes}")
        if np.isnan(self.scores).any():
            raise InputError("a score is not a number")


@dataclass(frozen=True, eq=False)
class Precision:
    """AP by class and IoU threshold, (classes, thresholds); NaN for a class without a true object."""

    table: Floats
    thresholds: Tuple[float, ...]

    @property
    def map50(self) -> float:
        """Mean over the classes at the first threshold, 0.5 unless others were given."""
        return float(np.nanmean(self.table[:, 0]))

    @property
    def map(self) -> float:
        """Mean over classes and thresholds."""
        return float(np.nanmean(self.table))


def precision(
    detections: Sequence[Detected],
    truths: Sequence[Objects],
    classes: int,
    thresholds: Tuple[float, ...] = THRESHOLDS,
) -> Precision:
    """AP of the detections of each image against its true objects. Raises InputError where the images do not match or no image
    has an object."""
    _require_match(detections, truths)
    table = np.full((classes, len(thresholds)), np.nan)
    for label in range(classes):
        total = sum(int((truth.classes == label).sum()) for truth in truths)
        if not total:
            continue
        scores, hits = outcomes(detections, truths, label, thresholds)
        for column in range(len(thresholds)):
            table[label, column] = average_precision(scores, hits[:, column], total)
    return Precision(table, tuple(thresholds))


def _require_match(detections: Sequence[object], truths: Sequence[Objects]) -> None:
    if len(detections) != len(truths):
        raise InputError(f"there are detections of {len(detections)} images and true objects of {len(truths)}")
    if not any(len(truth.classes) for truth in truths):
        raise InputError("no image has a true object, so there is no precision")


def outcomes(
    detections: Sequence[Detected], truths: Sequence[Objects], label: int, thresholds: Sequence[float]
) -> Tuple[Floats, Mask]:
    """Scores (n,) of all detections of a class, image by image, and whether each is a true positive, (n, thresholds)."""
    scores: List[Floats] = [np.zeros(0)]
    hits: List[Mask] = [np.zeros((0, len(thresholds)), np.bool_)]
    for found, truth in zip(detections, truths):
        own = found.classes == label
        overlaps = pairwise_iou(found.boxes[own], truth.boxes[truth.classes == label])
        scores.append(found.scores[own])
        hits.append(np.stack([matched(found.scores[own], overlaps, t) for t in thresholds], axis=1))
    return np.concatenate(scores), np.concatenate(hits)


def matched(scores: Floats, overlaps: Floats, threshold: float) -> Mask:
    """Which detections of one image and class are true positives: scores (n,), overlaps (n, objects).

    Equal scores: the detection with the larger best overlap first, so that the order of rows does not matter.
    """
    hit = np.zeros(len(scores), np.bool_)
    if not overlaps.size:
        return hit
    free = np.ones(overlaps.shape[1], np.bool_)
    for index in np.lexsort((-overlaps.max(axis=1), -scores)):
        row = np.where(free, overlaps[index], -1.0)
        best = int(row.argmax())
        if row[best] >= threshold:
            hit[index], free[best] = True, False
    return hit


def average_precision(scores: Floats, hits: Mask, total: int, hits_first: bool = False) -> float:
    """AP of detections with these scores (n,), some of them true positives, where there are `total` true objects. hits_first: true
    positives before false ones of equal score."""
    order = np.lexsort((~hits if hits_first else hits, -scores))
    hit = hits[order]
    found = np.cumsum(hit)
    best = np.maximum.accumulate((found / np.arange(1, len(hit) + 1))[::-1])[::-1]
    return float(best[hit].sum() / total)


# --- what noise permits

# Outcomes of one image, class and threshold walked through before the widest ones are taken instead.
_WALKED = 64


def bounds(
    alternatives: Sequence[Sequence[Detected]],
    truths: Sequence[Objects],
    classes: int,
    score_noise: float,
    thresholds: Tuple[float, ...] = THRESHOLDS,
) -> Tuple[Precision, Precision]:
    """The lowest and the highest AP, class by class and threshold by threshold, of detections whose scores may move by
    `score_noise` and their boxes by their `moves`.

    alternatives: for each image the sets of detections that noise permits, usually one. The bounds hold for every movement; not
    every value between them need be reached. Raises InputError as `precision` does.
    """
    _require_match(alternatives, truths)
    tables = np.full((2, classes, len(thresholds)), np.nan)
    for label in range(classes):
        total = sum(int((truth.classes == label).sum()) for truth in truths)
        if not total:
            continue
        images = [[_links(found, truth, label) for found in sets] for sets, truth in zip(alternatives, truths)]
        for column, threshold in enumerate(thresholds):
            ends = [_ends(links, threshold, score_noise) for links in images]
            for end in range(2):
                hits, misses = (np.concatenate([np.zeros(0), *(pair[end][k] for pair in ends)]) for k in range(2))
                shift = score_noise if end else -score_noise
                scores = np.concatenate([hits + shift, misses - shift])
                positive = np.arange(len(scores)) < len(hits)
                tables[end, label, column] = average_precision(scores, positive, total, hits_first=bool(end))
    return Precision(tables[0], tuple(thresholds)), Precision(tables[1], tuple(thresholds))


@dataclass(frozen=True, eq=False)
class _Links:
    """Detections of one image and class by falling score, and the bounds of their IoU with each true object, (n, objects)."""

    scores: Floats
    low: Floats
    high: Floats


def _links(found: Detected, truth: Objects, label: int) -> _Links:
    own = np.nonzero(found.classes == label)[0]
    own = own[np.argsort(-found.scores[own], kind="stable")]
    boxes = truth.boxes[truth.classes == label]
    moves = np.zeros(len(own)) if found.moves is None else found.moves[own]
    low, high = iou_bounds(found.boxes[own][:, None], boxes[None], moves[:, None], 0.0)
    return _Links(found.scores[own], low, high)


_Scores = Tuple[Floats, Floats]  # of true positives and of false ones, each by falling score


def _ends(sets: Sequence[_Links], threshold: float, noise: float) -> Tuple[_Scores, _Scores]:
    """The worst and the best outcome of the sets: true positives as low and as few as in any, false ones as high and as many; and
    the reverse."""
    outcomes_of = [outcome for links in sets for outcome in _outcomes_of(links, threshold, noise)]
    hits, misses = ([outcome[k] for outcome in outcomes_of] for k in range(2))
    return (_each(hits, np.min), _each(misses, np.max)), (_each(hits, np.max), _each(misses, np.min))


def _each(lists: Sequence[Floats], choose: Callable[..., Floats]) -> Floats:
    """Element by element the least or the largest of lists by falling score; a missing element is below every score."""
    longest = max(map(len, lists))
    padded = [np.concatenate([one, np.full(longest - len(one), -np.inf)]) for one in lists]
    chosen = choose(np.stack(padded), axis=0)
    return np.asarray(chosen[np.isfinite(chosen)])


def _outcomes_of(links: _Links, threshold: float, noise: float) -> List[_Scores]:
    """The outcomes of one set that noise permits: scores of true and of false positives. Where these are too many: the outcome in
    which all that can be true positives are, and the one in which none is."""
    possible = links.high >= threshold
    found = _hits(links, possible, threshold, noise)
    if found is None:
        linked = np.nonzero(possible.any(axis=1))[0][: int(possible.any(axis=0).sum())]
        found = {frozenset(linked.tolist()), frozenset()}
    outcomes = []
    for hits in found:
        hit = np.zeros(len(links.scores), np.bool_)
        hit[list(hits)] = True
        outcomes.append((links.scores[hit], links.scores[~hit]))
    return outcomes


def _hits(links: _Links, possible: Mask, threshold: float, noise: float) -> Optional[Set[FrozenSet[int]]]:
    """Every set of detections that may be the true positives, or None where there are too many to walk through.

    `matched` as a tree: it branches where another detection that may take the same object may score more, and where an overlap may lie
    on either side of the threshold or of another overlap.
    """
    options = [frozenset(np.nonzero(row)[0].tolist()) for row in possible]
    start = (frozenset(k for k, objects in enumerate(options) if objects), frozenset(range(possible.shape[1])))
    found: Set[FrozenSet[int]] = set()
    states: List[Tuple[FrozenSet[int], FrozenSet[int], FrozenSet[int]]] = [(*start, frozenset())]
    seen = set(states)
    while states:
        left, free, hits = states.pop()
        left = frozenset(k for k in left if options[k] & free)
        if not left:
            found.add(hits)
            continue
        first = min(left)
        reach = links.scores[first] - 2 * noise
        for index in [k for k in left if links.scores[k] >= reach and options[k] & options[first] & free]:
            for taken in _takes(links, index, options[index] & free, threshold):
                used = frozenset() if taken is None else frozenset([taken])
                state = (left - {index}, free - used, hits | {index} if used else hits)
                if state not in seen:
                    seen.add(state)
                    states.append(state)
        if len(seen) > _WALKED:
            return None
    return found


def _takes(links: _Links, index: int, objects: FrozenSet[int], threshold: float) -> List[Optional[int]]:
    """The objects a detection may take, its best or what noise could make its best; None among them where it may take none."""
    low, high = links.low[index], links.high[index]
    surely = [k for k in objects if low[k] >= threshold]
    least = max((low[k] for k in surely), default=threshold)
    taken: List[Optional[int]] = [k for k in sorted(objects) if high[k] >= least]
    return taken if surely else [*taken, None]
