"""mAP of a model and of its file on the same labelled pictures, as COCO counts it, and an interval of their difference."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Dict, List, Sequence, Tuple

import numpy as np

from detparity.oracle.average_precision import THRESHOLDS, Detected, Objects, outcomes
from detparity.oracle.boxes import Floats

RECALLS = np.linspace(0.0, 1.0, 101)  # at which COCO reads the precision
MOST_DETECTIONS = 100  # of an image, by score, as COCO takes them
DRAWS, LEAST_IMAGES = 300, 5  # bootstrap draws; fewer pictures have no interval
COVERAGE = 0.95
Outcomes = List[Tuple[Floats, np.ndarray, int]]  # of one class, by image: scores, hits (n, thresholds), true objects


@dataclass(frozen=True)
class Compared:
    """One number of both sides; low, high: of file minus model in 95 of 100 draws of the pictures, None for too few pictures."""

    model: float
    file: float
    low: float = float("nan")
    high: float = float("nan")

    @property
    def known(self) -> bool:
        return self.low == self.low


def compared(
    model: Sequence[Detected], file: Sequence[Detected], truths: Sequence[Objects], seed: int = 0
) -> Dict[str, Compared]:
    """`mAP50` and `mAP50-95`. Pictures are drawn with replacement, the same for both sides."""
    labels = sorted({int(label) for truth in truths for label in truth.classes})
    sides = [_outcomes([_best(one) for one in found], truths, labels) for found in (model, file)]
    every = np.arange(len(truths))
    total = [_both(side, every) for side in sides]
    draws = np.zeros((0, 2))
    if len(truths) >= LEAST_IMAGES:
        chosen = np.random.default_rng(seed).integers(0, len(truths), (DRAWS, len(truths)))
        draws = np.array([np.subtract(_both(sides[1], one), _both(sides[0], one)) for one in chosen])
    tails = (50 * (1 - COVERAGE), 50 * (1 + COVERAGE))
    ends = np.nanpercentile(draws, tails, axis=0) if len(draws) else np.full((2, 2), np.nan)
    return {
        name: Compared(total[0][k], total[1][k], float(ends[0, k]), float(ends[1, k]))
        for k, name in enumerate(("mAP50", "mAP50-95"))
    }


def _best(found: Detected) -> Detected:
    if len(found.scores) <= MOST_DETECTIONS:
        return found
    keep = np.argsort(-found.scores, kind="stable")[:MOST_DETECTIONS]
    return Detected(found.boxes[keep], found.scores[keep], found.classes[keep])


def _outcomes(found: Sequence[Detected], truths: Sequence[Objects], labels: Sequence[int]) -> List[Outcomes]:
    return [
        [
            (*outcomes([one], [truth], label, THRESHOLDS), int((truth.classes == label).sum()))
            for one, truth in zip(found, truths)
        ]
        for label in labels
    ]


def _both(classes: Sequence[Outcomes], chosen: np.ndarray) -> Tuple[float, float]:
    """mAP50 and mAP50-95 of the chosen images; a class without a true object there does not count."""
    rows = []
    for images in classes:
        picked = [images[int(index)] for index in chosen]
        total = sum(objects for _, _, objects in picked)
        if total:
            scores, hits = (np.concatenate([one[k] for one in picked]) for k in range(2))
            rows.append(interpolated(scores, hits, total))
    table = np.array(rows) if rows else np.full((1, len(THRESHOLDS)), np.nan)
    return float(table[:, 0].mean()), float(table.mean())


def interpolated(scores: Floats, hits: np.ndarray, total: int) -> Floats:
    """AP at each threshold: mean of the precision at 101 recalls. scores (n,), hits (n, thresholds)."""
    if not len(scores):
        return np.zeros(hits.shape[1])
    found = np.cumsum(hits[np.argsort(-scores, kind="stable")], axis=0)
    precisions = found / np.arange(1, len(scores) + 1)[:, None]
    best = np.maximum.accumulate(precisions[::-1], axis=0)[::-1]
    best = np.concatenate([best, np.zeros((1, hits.shape[1]))])  # recalls that are not reached
    at = [np.searchsorted(found[:, column] / total, RECALLS, side="left") for column in range(hits.shape[1])]
    return np.array([best[rows, column].mean() for column, rows in enumerate(at)])
