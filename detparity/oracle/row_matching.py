"""Rows of two selections, paired one to one within limits: a maximum matching, so that no near tie hides a partner."""

from __future__ import annotations

from typing import Dict, Iterator, List, Sequence, Tuple

import numpy as np

SAMPLE = 100  # rows whose distance is typical


def matched(one: np.ndarray, other: np.ndarray, limits: np.ndarray, every: bool = False) -> List[Tuple[int, int]]:
    """(row of `one`, row of `other`) of as many pairs as there can be, in order of the first. Two rows may be a pair where no column
    differs by more than its limit; of several partners the nearest is preferred.

    one: (n, columns); other: (m, columns); limits: (columns,), of the columns' own units. every: there are no pairs unless each row
    of `one` is in one, which ends the search sooner.
    """
    candidates = []
    for found in _candidates(one, other, limits):
        if every and not found:
            return []
        candidates.append(found)
    taken: Dict[int, int] = {}
    for row in range(len(one)):
        if not _augment(row, candidates, taken) and every:
            return []
    return sorted((row, partner) for partner, row in taken.items())


def typical_distance(one: np.ndarray, other: np.ndarray, scales: np.ndarray) -> float:
    """How far the median row of `one` is from the nearest of `other`, in its worst column, in units of `scales`: rows in another order
    are not apart. Of many rows some are looked at."""
    if not len(one) or not len(other):
        return 0.0
    some = one[:: 1 + len(one) // SAMPLE]
    with np.errstate(invalid="ignore", over="ignore"):
        found = [np.nan_to_num(np.abs(other - row) / scales, nan=np.inf).max(axis=1).min() for row in some]
    return float(np.median(found))


def _candidates(one: np.ndarray, other: np.ndarray, limits: np.ndarray) -> Iterator[List[int]]:
    """For each row of `one` its possible partners, nearest first: of more than `one` has rows those that are nearest, since a row with
    so many finds one whatever the others take. Looked for among those that are near in the most telling column."""
    if not len(one) or not len(other):
        yield from ([] for _ in one)
        return
    usable = np.where(np.isfinite(other), other, 0.0)
    telling = np.argsort(-np.ptp(usable, axis=0) / np.maximum(limits, 1e-300), kind="stable")
    column = int(telling[0]) if len(telling) else 0
    order = np.argsort(other[:, column], kind="stable")
    ranked = np.asfortranarray(other[order])
    key = ranked[:, column]
    with np.errstate(invalid="ignore"):
        wide = limits[column] * (1 + 1e-12) + 1e-12 * np.abs(one[:, column])
        first = np.searchsorted(key, one[:, column] - wide, side="left")
        last = np.searchsorted(key, one[:, column] + wide, side="right")
    by = np.roll(telling, -1)  # the most telling column is done with, but for its rounding
    for row, a, b in zip(one, first, last):
        yield _near(row, ranked[a:b], order[a:b], limits[by], by)[: len(one)]


def _near(row: np.ndarray, other: np.ndarray, names: np.ndarray, limits: np.ndarray, by: np.ndarray) -> List[int]:
    """Names of the rows within the limits, nearest first; one column after the other, so that few rows are left for the last."""
    near = np.arange(len(other))
    with np.errstate(invalid="ignore"):
        for column, most in zip(by, limits):
            near = near[np.abs(other[near, column] - row[column]) <= most]
    apart = np.abs(other[near][:, by] - row[by]) / np.maximum(limits, 1e-300)
    found: List[int] = names[near][np.lexsort((names[near], apart.max(axis=1, initial=0.0)))].tolist()
    return found


def _augment(start: int, candidates: Sequence[Sequence[int]], taken: Dict[int, int]) -> bool:
    """Give `start` a partner, moving others where that makes room: one path of the augmenting-path method, without recursion."""
    came: Dict[int, int] = {}  # partner -> the row that reached it
    queue = [start]
    for row in queue:
        for partner in candidates[row]:
            if partner in came:
                continue
            came[partner] = row
            if partner not in taken:
                _follow(partner, start, came, candidates, taken)
                return True
            queue.append(taken[partner])
    return False


def _follow(
    partner: int, start: int, came: Dict[int, int], candidates: Sequence[Sequence[int]], taken: Dict[int, int]
) -> None:
    held = {row: one for one, row in taken.items()}
    while True:
        row = came[partner]
        before = held.get(row)
        taken[partner] = row
        if row == start or before is None:
            return
        partner = before
