"""Suppression inside a network: which candidates of one call are those of a file's node, and whether what was retained is legal."""

from __future__ import annotations

from typing import Optional

import numpy as np

from detparity.core.decisions import Breach, Choice, Forced
from detparity.oracle.boxes import iou_bounds
from detparity.oracle.row_matching import matched

NEAR = 1e-3  # of the spread, by which score and sides of a candidate may differ from those of the file's
MOST = 50_000  # candidates of a node, beyond which they are not matched


def retained(choice: Choice, boxes: np.ndarray, scores: np.ndarray) -> Optional[np.ndarray]:
    """Which candidates of a call the file's node retained, (n,) bool; None where they are not all among those of the node.

    A call may hold a part of the node's candidates, as those of one class or level; boxes of classes may be moved apart by an offset,
    so that scores and sides decide, and not corners.
    """
    assert choice.boxes is not None
    if not len(scores) or len(scores) > choice.scores.size or choice.scores.size > MOST:
        return None
    _, classes, count = choice.scores.shape
    sides = np.repeat((choice.boxes[..., 2:] - choice.boxes[..., :2])[:, None], classes, 1)
    theirs = np.concatenate([choice.scores[..., None], sides], -1).reshape(-1, 3)
    own = np.concatenate([scores[:, None], boxes[:, 2:] - boxes[:, :2]], 1)
    pairs = matched(own, theirs, NEAR * np.maximum(np.ptp(theirs, axis=0), 1e-6 * np.abs(theirs).max(axis=0)) + 1e-9)
    if len(pairs) < len(own):
        return None
    image, kind, box = np.moveaxis(choice.indices.reshape(-1, 3).astype(int), -1, 0)
    chosen = np.zeros(len(theirs), bool)
    chosen[(image * classes + kind) * count + box] = True
    return chosen[[partner for _, partner in pairs]]


def breach(choice: Choice, forced: Forced, margin: float, move: float) -> Optional[Breach]:
    """Why what was retained of a call is no suppression of the numbers the model read; None where it is one. margin: of scores; move:
    how far a corner may be off."""
    boxes, scores, held = forced.boxes, forced.scores, forced.indices
    assert boxes is not None and held is not None and choice.boxes is not None
    move += 2.0**-23 * float(np.abs(choice.boxes).max(initial=0.0))  # boxes moved apart by class are rounded
    low, high = iou_bounds(boxes[held][:, None], boxes[None], np.full((1, 1), move), np.full((1, 1), move))
    both = low[:, held] > forced.threshold
    np.fill_diagonal(both, False)
    if both.any():
        one, other = (int(held[k]) for k in np.unravel_index(int(both.argmax()), both.shape))
        return Breach("overlap", one, other, float(low[:, held][both].max()) - forced.threshold)
    under = scores[held] < forced.least - margin
    if under.any():
        return Breach(
            "cut", int(held[under.argmax()]), int(held[under.argmax()]), float(forced.least - scores[held].min())
        )
    covered = ((high > forced.threshold) & (scores[held][:, None] >= scores[None] - margin)).any(0)
    covered[held] = True
    covered |= scores <= forced.least + margin
    if forced.taken and len(held) >= forced.taken:
        covered |= scores <= scores[held].min(initial=np.inf) + margin
    left = np.flatnonzero(~covered)
    if len(left):
        best = int(left[scores[left].argmax()])
        return Breach("not suppressed", best, best, float(scores[best] - scores[held].min(initial=scores[best])))
    return None
