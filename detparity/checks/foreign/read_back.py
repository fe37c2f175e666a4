"""What the suppression of a file retained, where it cannot be shown: read from the file's rows.

The model itself says which row a candidate gives: it is given those that score as the rows without a partner do, and its rows are
matched with the file's. What is read so is certified as a choice that is shown; docs/selections.md states the method.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Dict, Iterator, List, Optional, Sequence, Tuple

import numpy as np

from detparity.checks.foreign.context import ForeignContext
from detparity.checks.foreign.left_over import Left
from detparity.checks.foreign.truth import CaseTruth, Refuses, slack_for
from detparity.core.decisions import SUPPRESSION, Choice, Forced
from detparity.core.vocabulary import Arrays
from detparity.models.reference import EXACT
from detparity.oracle.boxes import iou
from detparity.oracle.output_floor import Tables, in_order_of, tables_of

MOST = 16  # runs in float64, each of as many candidates as the model has rows


@dataclass(frozen=True)
class Rows:
    """Where the rows of candidates are asked for: the model's own choices, what they were made from, and the file's outputs."""

    context: ForeignContext
    images: np.ndarray
    own: Tuple[Choice, ...]
    truth: CaseTruth
    outputs: Arrays

    def given(self, at: int, held: np.ndarray) -> Optional[Arrays]:
        """What the model gives where its suppression `at` retains these; None where it does not run so."""
        choices = (*self.own[:at], _retaining(self.own[at], held))
        try:
            return self.context.named(self.context.oracle.run_forced(EXACT, self.images, choices)[0])
        except Refuses:
            return None

    def of(self, at: int, pool: np.ndarray, count: int) -> Iterator[Tuple[int, np.ndarray, Tables]]:
        """(image, candidates, their rows), of so many candidates at a time."""
        for first in range(0, len(pool), count):
            some = pool[first : first + count]
            outputs = self.given(at, some)
            for image in range(len(self.truth.images)) if outputs is not None else ():
                tables = tables_of(self.context.layout, outputs or {}, image)
                if all(len(values) == len(some) for values in tables.values()):
                    yield image, some, tables


def read_back(rows: Rows, left: Left) -> Optional[Tuple[Choice, ...]]:
    """The model's choices up to the last suppression whose candidates score as rows without a partner do, which retains those that
    the file has rows of; None where there is none, or it would take too many runs."""
    count = max(len(next(iter(one.tables.values()), ())) for one in rows.truth.images)
    pools = dict(_pools(rows, left)) if count else {}
    if sum(-(-len(pool) // count) for _, pool in pools.values()) > MOST:
        return None
    found, last = list(rows.own), -1
    for at, (forced, pool) in pools.items():
        seen = _seen(rows, at, pool, count)
        if seen is not None:
            found[at], last = _completed(rows.own[at], forced, pool, seen, left), at
    return tuple(found[: last + 1]) if last >= 0 else None


def _pools(rows: Rows, left: Left) -> Iterator[Tuple[int, Tuple[Forced, np.ndarray]]]:
    """The suppressions of the model that are run once, by their number, with the candidates that they may have retained otherwise."""
    for at, choice in enumerate(rows.own):
        forced = [one for one in rows.truth.forced if one.node == choice.node]
        if choice.kind == SUPPRESSION and len(forced) == 1:
            pool = _near(forced[0], left)
            if len(pool):
                yield at, (forced[0], pool)


def _near(forced: Forced, left: Left) -> np.ndarray:
    """Candidates that score as rows without a partner do, the best first."""
    away = np.abs(forced.scores[:, None] - left.scores[None]).min(axis=1, initial=np.inf)
    pool = np.flatnonzero((away <= left.slack) & (forced.scores > forced.least))
    best: np.ndarray = pool[np.argsort(-forced.scores[pool], kind="stable")]
    return best


def _seen(rows: Rows, at: int, pool: np.ndarray, count: int) -> Optional[List[int]]:
    """Candidates of the pool that the file has a row of; None where the model gives no rows of theirs."""
    parts: Dict[int, List[Tuple[np.ndarray, Tables]]] = {}
    for image, some, tables in rows.of(at, pool, count):
        parts.setdefault(image, []).append((some, tables))
    found: List[int] = []
    for image, known in parts.items():
        one, layout = rows.truth.images[image], rows.context.layout
        names = np.concatenate([some for some, _ in known])
        mine = {name: np.concatenate([tables[name] for _, tables in known]) for name in one.tables}
        yours = tables_of(layout, {name: rows.outputs[name] for name in rows.truth.outputs}, image)
        # From the file's rows, each of which takes the nearest: of more candidates than rows, those that come first would take any.
        unmatched = in_order_of(yours, mine, layout, slack_for(one.tables, layout, one.floor()))[2].unmatched[1]
        found += np.delete(names, list(unmatched)).tolist()
    return found if parts else None


def _completed(choice: Choice, forced: Forced, pool: np.ndarray, seen: Sequence[int], left: Left) -> Choice:
    """A suppression that retains these of the pool, and of the others what the model does; beyond the file's last row, which a cap may
    have cut, what follows."""
    boxes, scores, held = forced.boxes, forced.scores, forced.indices
    assert boxes is not None and held is not None
    lowest = float(left.scores.min()) - left.slack
    head = np.array([*held[~np.isin(held, pool) & (scores[held] >= lowest)], *seen], int)
    head = head[np.argsort(-scores[head], kind="stable")]
    retained, read = head.tolist(), choice.scores.reshape(-1).copy()
    last = float(scores[head].min()) if len(head) else np.inf
    rest = np.setdiff1d(np.flatnonzero((scores > forced.least) & (scores <= last + left.slack)), head)
    for one in rest[np.argsort(-scores[rest], kind="stable")].tolist():
        if not len(retained) or not (iou(boxes[one][None], boxes[retained]) > forced.threshold).any():
            retained.append(one)
            read[one] = min(read[one], last)  # a tie with the last row, which comes first
    return replace(_retaining(choice, np.array(retained, int)), scores=read.reshape(choice.scores.shape))


def _retaining(choice: Choice, held: np.ndarray) -> Choice:
    indices = np.stack([np.zeros_like(held), np.zeros_like(held), held], 1)
    return replace(choice, indices=indices.astype(choice.indices.dtype))
