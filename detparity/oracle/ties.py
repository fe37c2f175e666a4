"""Near ties of decisions: where noise within its margin exchanges a choice, and what is chosen then, consequences included.

A tie is named by its candidates; a choice with ties exchanged is again one that noise allows. docs/selections.md has the method.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import FrozenSet, Iterator, List, Sequence, Set, Tuple

import numpy as np

from detparity.core.decisions import BEST, CUT, Choice, Forced, fitted
from detparity.oracle.boxes import iou, iou_bounds

MOST = 256  # ties of one decision: beyond, the nearest


@dataclass(frozen=True)
class Tie:
    """Candidates that noise may exchange. what: 'cut' (one candidate at a threshold), 'left out' (second in place of first), 'order'
    (second before first), 'overlap' (whether the first suppresses the second), 'both' (one candidate, by either); row: of BEST, or
    the call of a suppression; by: how far it is from being decided otherwise; scores: of the candidates.

    pairs: of candidates whose overlap, or whose choice, is exchanged; orders: of a suppression, where the second is to come first.
    """

    what: str
    row: int
    pairs: Tuple[Tuple[int, int], ...]
    by: float
    scores: Tuple[float, ...]
    orders: Tuple[Tuple[int, int], ...] = ()

    @property
    def first(self) -> Tuple[int, int]:
        return (*self.pairs, *self.orders)[0]


def near_ties(choice: Choice, forced: Forced, margin: float, move: float) -> List[Tie]:
    """The ties of a choice on the numbers the model read, nearest first. margin: of scores; move: of a corner of a box."""
    if choice.kind == CUT:
        found = list(_cut(forced, margin))
    elif choice.kind == BEST:
        found = list(_best(choice, forced, margin))
    else:
        found = [*_caps(forced, margin), *_overlaps(forced, margin, move)]
    return sorted(found, key=lambda tie: tie.by)[:MOST]


def _cut(forced: Forced, margin: float) -> Iterator[Tie]:
    scores = forced.scores.reshape(-1)
    for at in np.flatnonzero(np.abs(scores) <= margin).tolist():
        yield Tie("cut", 0, ((at, at),), float(abs(scores[at])), ())


def _best(choice: Choice, forced: Forced, margin: float) -> Iterator[Tie]:
    """One chosen and one left out; where all are chosen, neighbours, of which a later step may take the first so many."""
    scores = np.moveaxis(forced.scores.reshape(choice.scores.shape), choice.axis, -1)
    rows: np.ndarray = scores.reshape(-1, choice.candidates) * (1.0 if forced.largest else -1.0)
    chosen = choice.rows[:, : forced.taken or None].astype(int)
    rest = rows.copy()
    np.put_along_axis(rest, chosen, -np.inf, 1)
    for row in np.flatnonzero(np.take_along_axis(rows, chosen, 1).min(1) - rest.max(1) <= margin).tolist():
        last = float(rows[row, chosen[row]].min())
        low = [k for k in chosen[row] if rows[row, k] - rest[row].max() <= margin]
        high = np.flatnonzero(rest[row] >= last - margin)
        for first in low:
            for second in high.tolist():
                by = float(abs(rows[row, first] - rows[row, second]))
                if by <= margin:
                    yield Tie("left out", row, ((int(first), second),), by, _plain(rows, row, first, second, forced))
    if chosen.shape[1] == choice.candidates > 1:
        gaps = np.abs(np.diff(np.take_along_axis(rows, chosen, 1), axis=1))
        for row, at in np.argwhere(gaps <= margin).tolist():
            first, second = int(chosen[row, at]), int(chosen[row, at + 1])
            yield Tie("order", row, ((first, second),), float(gaps[row, at]), _plain(rows, row, first, second, forced))


def _plain(rows: np.ndarray, row: int, first: int, second: int, forced: Forced) -> Tuple[float, float]:
    sign = 1.0 if forced.largest else -1.0
    return float(sign * rows[row, first]), float(sign * rows[row, second])


def _caps(forced: Forced, margin: float) -> Iterator[Tie]:
    """Neighbours among those retained, of which a cap may take the first."""
    _, scores, held = _parts(forced)
    for one, two in zip(held[:-1].tolist(), held[1:].tolist()):
        by = float(abs(scores[one] - scores[two]))
        if by <= margin:
            yield Tie("order", forced.call, (), by, (float(scores[one]), float(scores[two])), ((one, two),))


def _overlaps(forced: Forced, margin: float, move: float) -> Iterator[Tie]:
    """Two retained that may overlap by more than the threshold; and one left out, where each that suppresses it ties with it, by their
    overlap or by which comes first."""
    boxes, scores, held = _parts(forced)
    if not len(held):
        return
    moves = np.full((1, 1), move)
    low, high = iou_bounds(boxes[held][:, None], boxes[None], moves, moves)
    exact = iou(boxes[held][:, None], boxes[None])
    away = np.abs(exact - forced.threshold)
    for at, other in np.argwhere(np.triu(high[:, held] > forced.threshold, 1)).tolist():
        one, two = int(held[at]), int(held[other])
        yield Tie("overlap", forced.call, ((one, two),), float(away[at, two]), (float(scores[two]),))
    gap = scores[held][:, None] - scores[None]
    blocks = (exact > forced.threshold) & (gap >= 0)
    by_overlap, by_order = blocks & (low <= forced.threshold), blocks & (low > forced.threshold) & (gap <= margin)
    blocks[:, held] = False
    for other in np.flatnonzero(blocks.any(0) & ~(blocks & ~by_overlap & ~by_order).any(0)).tolist():
        pairs = tuple((int(held[at]), other) for at in np.flatnonzero(by_overlap[:, other]))
        orders = tuple((int(held[at]), other) for at in np.flatnonzero(by_order[:, other]))
        by = max([*away[by_overlap[:, other], other], *gap[by_order[:, other], other]])
        what = "both" if pairs and orders else "overlap" if pairs else "order"
        both = (float(scores[other]), *(float(scores[one]) for one, _ in orders))
        yield Tie(what, forced.call, pairs, float(by), both, orders)


def _parts(forced: Forced) -> Tuple[np.ndarray, np.ndarray, np.ndarray]:
    assert forced.boxes is not None and forced.indices is not None
    return forced.boxes, forced.scores, forced.indices


def exchanged(choice: Choice, forced: Sequence[Forced], ties: Sequence[Tie]) -> Choice:
    """The choice with these ties exchanged. forced: what was read there, of a suppression each call of (image, class) in order."""
    if choice.kind == CUT:
        flags = choice.indices.reshape(-1).astype(bool)
        for tie in ties:
            flags[tie.pairs[0][0]] ^= True
        return replace(choice, indices=flags.reshape(choice.indices.shape))
    if choice.kind == BEST:
        return _exchanged_best(choice, ties)
    classes = choice.scores.shape[1]
    found = []
    for one in forced:
        held = suppressed(one, [tie for tie in ties if tie.row == one.call])
        image, kind = divmod(one.call - 1, classes)
        found.append(np.stack([np.full(len(held), image), np.full(len(held), kind), held], 1))
    return replace(choice, indices=np.concatenate(found).astype(choice.indices.dtype))


def _exchanged_best(choice: Choice, ties: Sequence[Tie]) -> Choice:
    rows = choice.rows.copy()
    for tie in ties:
        first, second = tie.pairs[0]
        was = rows[tie.row].copy()
        rows[tie.row][was == first] = second
        if tie.what == "order":
            rows[tie.row][was == second] = first
    shape = np.moveaxis(choice.scores, choice.axis, -1).shape[:-1] + (rows.shape[1],)
    wide = np.moveaxis(rows.reshape(shape), -1, choice.axis)
    return replace(choice, indices=fitted(choice, replace(choice, indices=wide)))


def suppressed(forced: Forced, ties: Sequence[Tie]) -> np.ndarray:
    """What a call retains with these ties exchanged: greedy, so that what follows from them follows here. Calls without a tie retain
    what they did."""
    boxes, scores, held = _parts(forced)
    if not ties:
        return held
    order = np.argsort(-scores, kind="stable").tolist()
    for first, second in (pair for tie in ties for pair in tie.orders):
        if order.index(second) > order.index(first):
            order.remove(second)
            order.insert(order.index(first), second)
    flipped: Set[FrozenSet[int]] = set()
    for tie in ties:
        flipped ^= {frozenset(pair) for pair in tie.pairs}
    retained: List[int] = []
    left = [one for one in order if scores[one] > forced.least]
    dropped = np.zeros(len(scores), bool)
    for one in left:
        if dropped[one]:
            continue
        retained.append(one)
        over = iou(boxes[one][None], boxes) > forced.threshold
        for pair in flipped:
            if one in pair:
                (other,) = pair - {one}
                over[other] ^= True
        dropped |= over
    return np.array(retained[: forced.taken or None], int)
