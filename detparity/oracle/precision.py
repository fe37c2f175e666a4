"""Average precision in plain numpy: how good detections are, given the true objects.

Per class and IoU threshold, over all images together. Detections are taken by falling score; each is a true positive where a true
object of its image and class, not yet taken, overlaps it by at least the threshold (the one that overlaps most), else a false
positive. Precision at a recall is the best at that recall or beyond, and AP its mean over the true objects (all-point
interpolation). Of exactly equal scores the false positives count first, so that the order of rows has no say.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import List, Sequence, Tuple

import numpy as np
import numpy.typing as npt

from detparity.errors import InputError
from detparity.oracle.boxes import Floats, pairwise_iou
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
    """Detections of one image in any order: boxes (n, 4) corners in pixels, scores (n,), classes (n,). Raises InputError for other
    shapes and for a score that is not a number."""

    boxes: Floats
    scores: Floats
    classes: Ints

    def __post_init__(self) -> None:
        shapes = (self.boxes.shape, self.scores.shape, self.classes.shape)
        n = len(self.classes)
        if shapes != ((n, 4), (n,), (n,)):
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
        """Mean over the classes at the first threshold, 0.5 unless others were asked for."""
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


def _require_match(detections: Sequence[Detected], truths: Sequence[Objects]) -> None:
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

    Equal scores: the detection with the larger best overlap first, so that the order of rows has no say.
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


def average_precision(scores: Floats, hits: Mask, total: int) -> float:
    """AP of detections with these scores (n,), some of them true positives, where there are `total` true objects."""
    order = np.lexsort((hits, -scores))
    hit = hits[order]
    found = np.cumsum(hit)
    best = np.maximum.accumulate((found / np.arange(1, len(hit) + 1))[::-1])[::-1]
    return float(best[hit].sum() / total)
