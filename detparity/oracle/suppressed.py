"""Suppression inside a network: which candidates of one call are those of a file's node, and whether what was retained is legal.

Legal is what the certificate of NMS accepts (`nms_certificate.py`), by the same facts (`nms_breaches.py`).
"""

from __future__ import annotations

from dataclasses import replace
from typing import Dict, List, Optional, Tuple

import numpy as np

from detparity.core.decisions import NEAR as SAME
from detparity.core.decisions import Breach, Choice, Forced, apart
from detparity.oracle import nms_breaches as facts
from detparity.oracle import nms_case
from detparity.oracle.boxes import iou, iou_bounds
from detparity.oracle.nms import Candidates, NmsRule
from detparity.oracle.row_matching import matched

NEAR_OVERLAP, FEW = 0.2, 20  # of an IoU from its threshold, of which there are to be so many pairs
SAMPLE = 200_000  # pairs of boxes
LONG = 8  # candidates that follow one another by chance in no two places
# Of the spread, by which score, sides and diagonal of a candidate may differ from those of the file's: the least that pairs all.
# docs/selections.md has the measurement.
NEAR = (1e-5, 1e-4, 1e-3, 1e-2)


def retained(choice: Choice, boxes: np.ndarray, scores: np.ndarray) -> Optional[np.ndarray]:
    """Candidates of a call that the file's node retained, (k,), in the file's order where that is one of descending scores, else by
    the call's own; None where the candidates are not all among those of the node.

    A call may hold a part of the node's candidates, as those of one class or level; boxes of classes may be moved apart by an offset,
    so that scores, sides and x1 - y1 decide, and not corners.
    """
    assert choice.boxes is not None
    if not len(scores) or len(scores) > choice.scores.size:
        return None
    partners = _block(choice, boxes, scores)
    partners = _part(choice, boxes, scores) if partners is None else partners
    if partners is None:
        return None
    _, classes, count = choice.scores.shape
    image, kind, box = np.moveaxis(choice.indices.reshape(-1, 3).astype(int), -1, 0)
    listed = np.full(choice.scores.size, -1)
    listed[(image * classes + kind) * count + box] = np.arange(len(box))
    order = listed[partners]
    held = np.flatnonzero(order >= 0)
    held = held[np.argsort(order[held], kind="stable")]
    if (np.diff(choice.scores.reshape(-1)[partners[held]]) > 0).any():
        held = held[np.argsort(-scores[held], kind="stable")]
    return held


def _block(choice: Choice, boxes: np.ndarray, scores: np.ndarray) -> Optional[np.ndarray]:
    """The image and class of the node whose candidates are those of the call in the same order, as positions among all."""
    assert choice.boxes is not None
    _, classes, count = choice.scores.shape
    if count != len(scores):
        return None
    best: Tuple[float, Optional[int]] = (SAME, None)
    for block, theirs in enumerate(choice.scores.reshape(-1, count)):
        by = apart(theirs, scores)
        if by <= best[0] and apart(_shape_of(choice.boxes[block // classes]), _shape_of(boxes)) <= SAME:
            best = (by, block)
    return None if best[1] is None else best[1] * count + np.arange(count)


def _part(choice: Choice, boxes: np.ndarray, scores: np.ndarray) -> Optional[np.ndarray]:
    """Where each candidate of the call is among those of the node, each at most once."""
    assert choice.boxes is not None
    shape = np.repeat(_shape_of(choice.boxes)[:, None], choice.scores.shape[1], 1)
    theirs = np.concatenate([choice.scores[..., None], shape], -1).reshape(-1, 4)
    own = np.concatenate([scores[:, None], _shape_of(boxes)], 1)
    usable = np.isfinite(theirs).all(1)
    spread = np.ptp(theirs[usable], axis=0) if usable.any() else np.zeros(4)
    spread = np.maximum(spread, 1e-6 * np.abs(own).max(axis=0))
    run = _run(own, theirs, NEAR[-1] * spread + 1e-9) if len(own) >= LONG else None
    if run is not None:
        return run
    for near in NEAR:
        pairs = matched(own, theirs, near * spread + 1e-9, every=True)
        if len(pairs) == len(own):
            return np.array([partner for _, partner in pairs])
    return None


def _run(own: np.ndarray, theirs: np.ndarray, limits: np.ndarray) -> Optional[np.ndarray]:
    """Where the candidates of a call follow one another among those of the node, as those of one level do."""
    best: Tuple[float, Optional[int]] = (1.0, None)
    last = len(theirs) - len(own)
    for start in np.flatnonzero((np.abs(theirs[: last + 1] - own[0]) <= limits).all(1)).tolist():
        by = float((np.abs(theirs[start : start + len(own)] - own) / limits).max())
        if by <= best[0]:
            best = (by, start)
    return None if best[1] is None else best[1] + np.arange(len(own))


def _shape_of(boxes: np.ndarray) -> np.ndarray:
    """(..., 3) width, height and x1 - y1: what an offset of all four coordinates leaves as it is."""
    found: np.ndarray = np.concatenate([boxes[..., 2:] - boxes[..., :2], boxes[..., :1] - boxes[..., 1:2]], -1)
    return found


def moved(choice: Choice, move: float) -> float:
    """How far a corner may be off where boxes are compared: `move`, and the rounding of boxes moved apart by class."""
    assert choice.boxes is not None
    return move + 2.0**-23 * float(np.abs(choice.boxes).max(initial=0.0))


def overlap_move(exact: Forced, other: Forced) -> float:
    """How far every corner would have to be off, in the worst direction, for overlaps of an exact run to differ by as much as they do
    in another, of those near the threshold: less than its corners are, which err in all directions."""
    assert exact.boxes is not None and other.boxes is not None and exact.indices is not None
    move = float(np.abs(other.boxes - exact.boxes).max(initial=0.0))
    held = exact.indices[:: 1 + exact.indices.size * len(exact.boxes) // SAMPLE]
    one, two = exact.boxes[held][:, None], exact.boxes[None]
    moves = np.full((1, 1), move)
    low, high = iou_bounds(one, two, moves, moves)
    plain = iou(one, two)
    near = np.abs(plain - exact.threshold) < NEAR_OVERLAP
    near[np.arange(len(held)), held] = False
    if near.sum() < FEW:
        return move
    apart_by = np.abs(iou(other.boxes[held][:, None], other.boxes[None]) - plain)[near]
    possible = np.maximum(high - plain, plain - low)[near]
    return move * float(np.max(apart_by / np.maximum(possible, 1e-300)))


def _case(choice: Choice, forced: Forced, margin: float, move: float) -> nms_case.Case:
    """A call as the certificate of NMS has it: what was retained as detections of one class, all candidates as the pool."""
    boxes, scores, held = forced.boxes, forced.scores, forced.indices
    assert boxes is not None and held is not None
    rows, none = np.arange(len(scores)), np.zeros(len(scores), np.int64)
    pool = nms_case.Pool(Candidates(rows, boxes, scores, none), scores, np.zeros(len(scores)), rows)
    given = nms_case.Detections(boxes[held], scores[held], np.zeros(len(held)), held.astype(np.int64))
    least = forced.least if np.isfinite(forced.least) else float(scores.min(initial=0.0)) - margin - 1.0
    rule = NmsRule(forced.threshold, least, forced.taken or max(len(scores), 1), False, class_agnostic=True)
    return nms_case.Case(0, given, pool, rule, nms_case.Tolerance(0.0, margin, moved(choice, move)))


def certificate(choice: Choice, forced: Forced, margin: float, move: float) -> Tuple[List[Breach], Dict[str, int]]:
    """What of a call's result no movement within the noise makes good, and how many facts only a movement does, by kind. margin: of
    scores; move: how far a corner may be off."""
    case = _case(choice, forced, margin, move)
    judged = np.arange(len(case.given.positions))
    low, _ = facts.below_threshold(
        replace(case, rule=replace(case.rule, score_threshold=case.rule.score_threshold - margin)),
        np.ones(len(judged), bool),
    )
    over, close = facts.overlaps(case, judged)
    missing, saved = facts.missing(case, judged, set(case.given.positions.tolist()), set())
    half = replace(case, tolerance=replace(case.tolerance, score=margin / 2))  # there, of each of two scores
    disorder, swapped = facts.disorder(half, judged)
    found = [_plain(one) for one in (*over, *missing, *low, *facts.over_cap(case, judged), *disorder)]
    return found, {"overlap": close, **saved, "order": swapped}


def breach(choice: Choice, forced: Forced, margin: float, move: float) -> Optional[Breach]:
    """The first breach of a call's result; None where it is a suppression of the numbers the model read."""
    found = certificate(choice, forced, margin, move)[0]
    return found[0] if found else None


KINDS = {"missing": "not suppressed", "below-threshold": "cut", "over-cap": "too many"}


def _plain(one: nms_case.Breach) -> Breach:
    about: Dict[str, float] = {key: value for key, value in one.facts.items() if isinstance(value, (int, float))}
    first = int(about.get("place", about.get("row", 0)))
    second = int(about.get("suppressor_place", about.get("nearest_place", about.get("place_before", first))))
    by = {
        "overlap": about.get("iou_lowest", 0.0) - about.get("iou_threshold", 0.0),
        "missing": about.get("iou_threshold", 0.0) - about.get("iou_highest", 0.0),
        "below-threshold": about.get("score_threshold", 0.0) - about.get("score", 0.0),
    }
    return Breach(KINDS.get(one.kind, one.kind), first, second, float(by.get(one.kind, 0.0)))
