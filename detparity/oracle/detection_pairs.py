"""Detections of a model and of a file on one image, put side by side for a reader: which are one object, and which changed."""

from __future__ import annotations

from dataclasses import dataclass
from typing import List, Tuple

import numpy as np

from detparity.oracle.average_precision import Detected
from detparity.oracle.boxes import pairwise_iou

SAME_OBJECT = 0.5  # the least IoU of two boxes of one class that are taken for one object
MOVED_PIXELS, MOVED_SCORE = 1.0, 0.01  # beyond which a reader would call a detection changed


@dataclass(frozen=True)
class Paired:
    """pairs: (model, file) indices of one object; lost: of the model alone; added: of the file alone; moved: pairs whose box or score
    is visibly another. It judges nothing: floors and certificates do."""

    pairs: Tuple[Tuple[int, int], ...]
    lost: Tuple[int, ...]
    added: Tuple[int, ...]
    moved: Tuple[Tuple[int, int], ...]

    @property
    def changed(self) -> int:
        return len(self.lost) + len(self.added) + len(self.moved)


def paired(model: Detected, file: Detected) -> Paired:
    """Pairs of one class by falling IoU, each detection in one pair at most."""
    overlaps = pairwise_iou(model.boxes, file.boxes)
    overlaps = np.where(model.classes[:, None] == file.classes[None, :], overlaps, 0.0)
    pairs: List[Tuple[int, int]] = []
    mine, yours = set(range(len(model.scores))), set(range(len(file.scores)))
    for flat in np.argsort(-overlaps, axis=None, kind="stable"):
        one, other = (int(index) for index in np.unravel_index(int(flat), overlaps.shape))
        if overlaps[one, other] < SAME_OBJECT:
            break
        if one in mine and other in yours:
            pairs.append((one, other))
            mine.discard(one)
            yours.discard(other)
    moved = tuple(pair for pair in pairs if _moved(model, file, *pair))
    return Paired(tuple(pairs), tuple(sorted(mine)), tuple(sorted(yours)), moved)


def _moved(model: Detected, file: Detected, one: int, other: int) -> bool:
    shift = float(np.abs(model.boxes[one] - file.boxes[other]).max())
    return shift > MOVED_PIXELS or abs(float(model.scores[one] - file.scores[other])) > MOVED_SCORE
