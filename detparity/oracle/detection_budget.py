"""What a file loses against its model on pictures: boxes lost, added and moved, shift of scores, mAP; each with an interval."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Dict, List, Optional, Sequence, Tuple

import numpy as np

from detparity.oracle.average_precision import Detected, Objects
from detparity.oracle.detection_pairs import paired
from detparity.oracle.precision_difference import COVERAGE, DRAWS, LEAST_IMAGES, compared

SHOWN, NEAR = 0.25, 0.10  # score of a detection that counts, and how much lower its partner's may be
Counts = Tuple[int, int, int, int, Tuple[float, ...], Tuple[float, ...]]


@dataclass(frozen=True)
class Loss:
    """One number of a budget; low, high: in 95 of 100 draws of the pictures, NaN for too few pictures."""

    value: float
    low: float = float("nan")
    high: float = float("nan")

    @property
    def known(self) -> bool:
        return self.low == self.low


@dataclass(frozen=True)
class Losses:
    """by the names of `core.budget.DEFAULTS`; pictures; detections of the model and of the file; labelled: whether true objects are
    known, without which there is no mAP."""

    losses: Dict[str, Loss]
    pictures: int
    model: int
    file: int
    labelled: bool


def losses(
    model: Sequence[Detected],
    file: Sequence[Detected],
    truths: Sequence[Optional[Objects]],
    seed: int = 0,
    least: float = 0.0,
) -> Losses:
    """Of detections on the same pictures; truths: None for a picture whose true objects are not known, which counts for no mAP; least:
    the score under which a file that suppresses gives nothing, so that a box counts from `NEAR` over it on."""
    shown = max(SHOWN, least + NEAR)
    counts = [_counts(one, other, shown) for one, other in zip(model, file)]
    draws = np.zeros((0, len(counts)), int)
    if len(counts) >= LEAST_IMAGES:
        draws = np.random.default_rng(seed).integers(0, len(counts), (DRAWS, len(counts)))
    every = _values(counts)
    drawn = [_values([counts[int(k)] for k in some]) for some in draws]
    found = {name: _loss(value, [one[name] for one in drawn]) for name, value in every.items()}
    known = [(one, other, truth) for one, other, truth in zip(model, file, truths) if truth is not None]
    labelled = any(len(truth.classes) for _, _, truth in known)
    if labelled:
        both = compared([one for one, _, _ in known], [one for _, one, _ in known], [one for _, _, one in known], seed)
        for name, key in (("map50", "mAP50"), ("map", "mAP50-95")):
            found[name] = Loss(both[key].model - both[key].file, -both[key].high, -both[key].low)
    mine, yours = sum(one[0] for one in counts), sum(one[1] for one in counts)
    return Losses(found, len(counts), mine, yours, labelled)


def _loss(value: float, drawn: Sequence[float]) -> Loss:
    if not drawn:
        return Loss(value)
    low, high = np.nanpercentile(drawn, (50 * (1 - COVERAGE), 50 * (1 + COVERAGE)))
    return Loss(value, float(low), float(high))


def _counts(model: Detected, file: Detected, shown: float) -> Counts:
    """Detections of both sides, those lost and added, and of the pairs the distance of sides and of scores."""
    mine, yours = model.scores >= shown, file.scores >= shown
    near = paired(_over(model, shown), _over(file, shown - NEAR))
    back = paired(_over(model, shown - NEAR), _over(file, shown))
    one, other = _over(model, shown), _over(file, shown - NEAR)
    sides = tuple(float(np.abs(one.boxes[a] - other.boxes[b]).max()) for a, b in near.pairs)
    scores = tuple(abs(float(one.scores[a] - other.scores[b])) for a, b in near.pairs)
    return int(mine.sum()), int(yours.sum()), len(near.lost), len(back.added), sides, scores


def _over(found: Detected, score: float) -> Detected:
    fine = found.scores >= score
    return Detected(found.boxes[fine], found.scores[fine], found.classes[fine])


def _values(counts: Sequence[Counts]) -> Dict[str, float]:
    total = max(sum(one[0] for one in counts), 1)
    sides: List[float] = [value for one in counts for value in one[4]]
    scores: List[float] = [value for one in counts for value in one[5]]
    return {
        "lost": sum(one[2] for one in counts) / total,
        "added": sum(one[3] for one in counts) / total,
        "moved": float(np.median(sides)) if sides else 0.0,
        "score": float(np.median(scores)) if scores else 0.0,
    }
