"""Every answer a suppression may give when its candidates move within the noise: nearly always one.

The greedy rule of `nms` is walked as a tree. It branches where noise leaves the next step open: which of two rivals scores more,
whether a candidate exceeds the score threshold or is its row's best class, whether two boxes overlap beyond the threshold.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Dict, List, Optional, Tuple

import numpy as np
import numpy.typing as npt

from detparity.oracle.average_precision import Detected, Mask
from detparity.oracle.boxes import Floats, corners, iou_bounds
from detparity.oracle.nms import Candidates, NmsRule, class_scores, decoded
from detparity.oracle.nms_case import FLOAT32_SCORE, FLOAT32_SPACING, Tolerance

LIMIT = 64  # answers of one image; more than a few mean that nothing is certain about it


@dataclass(frozen=True, eq=False)
class _Pool:
    """What may be a candidate, by falling score: whether it surely is one, and how far its corners may move, reported and while
    boxes are compared."""

    entries: Candidates
    sure: Mask
    moves: Floats
    compared: Floats


def answers(
    predictions: npt.ArrayLike, rule: NmsRule, tolerance: Tolerance, limit: int = LIMIT
) -> Optional[Tuple[Detected, ...]]:
    """The answers for one image, predictions (rows, 5 + nc) decoded, float64. None where there are more than `limit`.

    tolerance.box: pixels, a scalar or one per row. What `greedy` keeps of the predictions as they are is among the answers.
    """
    pool = _pool(decoded(predictions, ndim=2), rule, tolerance)
    if rule.prefilter is not None and len(pool.entries) > rule.prefilter:
        return None
    found = _walk(pool, rule, tolerance.score, limit)
    return None if found is None else tuple(_detected(pool, chosen) for chosen in found)


def _pool(values: Floats, rule: NmsRule, tolerance: Tolerance) -> _Pool:
    scores = class_scores(values)
    finite = np.asarray(np.isfinite(values).all(axis=1))
    noise = tolerance.score + FLOAT32_SCORE * abs(rule.score_threshold)
    legal = (scores >= rule.score_threshold - noise) & finite[:, None]
    certain = scores > rule.score_threshold + noise
    if rule.best_class and scores.shape[1] > 1:
        best = scores.max(axis=1, keepdims=True)
        near = scores >= best - 2 * tolerance.score
        legal &= near
        certain &= near.sum(axis=1, keepdims=True) == 1
    rows, classes = np.nonzero(legal)
    order = np.argsort(-scores[rows, classes], kind="stable")
    rows, classes = rows[order], classes[order]
    boxes = corners(values[rows, :4])
    moves = np.broadcast_to(np.asarray(tolerance.box, np.float64), len(values))[rows]
    compared = moves + tolerance.iou_slack + FLOAT32_SPACING * np.abs(boxes).max(axis=1, initial=0.0)
    return _Pool(Candidates(rows, boxes, scores[rows, classes], classes), certain[rows, classes], moves, compared)


def _detected(pool: _Pool, chosen: Tuple[int, ...]) -> Detected:
    index = np.array(chosen, np.int64)
    entries = pool.entries.take(index)
    return Detected(entries.boxes, entries.scores, entries.classes, pool.moves[index])


@dataclass(eq=False)
class _State:
    """A point of the walk: candidates left, those surely among them, and those retained, in order."""

    left: Mask
    sure: Mask
    retained: Tuple[int, ...] = ()


def _walk(pool: _Pool, rule: NmsRule, noise: float, limit: int) -> Optional[List[Tuple[int, ...]]]:
    entries = pool.entries
    overlaps: Dict[int, Tuple[Mask, Mask]] = {}

    def effect(index: int) -> Tuple[Mask, Mask]:
        """What `index` surely removes when it is retained, and what it may remove."""
        if index not in overlaps:
            rivals = np.nonzero(rule.class_agnostic | (entries.classes == entries.classes[index]))[0]
            low, high = iou_bounds(
                entries.boxes[index], entries.boxes[rivals], pool.compared[index], pool.compared[rivals]
            )
            surely, perhaps = (np.asarray(rule.best_class & (entries.rows == entries.rows[index])) for _ in range(2))
            surely[rivals] |= low > rule.iou_threshold
            perhaps[rivals] |= high >= rule.iou_threshold
            overlaps[index] = surely, perhaps
        return overlaps[index]

    found: Dict[Tuple[int, ...], Tuple[int, ...]] = {}
    states = [_State(np.ones(len(entries), np.bool_), pool.sure.copy())]
    steps = 0
    while states:
        state = states.pop()
        ahead = np.nonzero(state.left)[0]
        if not len(ahead) or len(state.retained) == rule.cap:
            found.setdefault(tuple(sorted(state.retained)), state.retained)
            if len(found) > limit:
                return None
            continue
        steps += 1
        if steps > limit * (rule.cap + len(entries)):
            return None
        first = int(ahead[0])
        surely, perhaps = effect(first)
        tied = ahead[(entries.scores[ahead] >= entries.scores[first] - 2 * noise) & (ahead != first)]
        if len(state.retained) + len(tied) < rule.cap:  # else so many may come first that the cap leaves this one out
            tied = tied[perhaps[tied]]
        branches = [_retain(state, int(other), *effect(int(other))) for other in tied]
        if not state.sure[first]:
            left = state.left.copy()
            left[first] = False
            branches.append(_State(left, state.sure, state.retained))
        states += [*branches, _retain(state, first, surely, perhaps)]
    return list(found.values())


def _retain(state: _State, index: int, surely: Mask, perhaps: Mask) -> _State:
    left = state.left & ~surely
    left[index] = False
    return _State(left, state.sure & ~perhaps, (*state.retained, index))
