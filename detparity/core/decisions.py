"""Decisions inside a network, as plain data: what a file chose from which numbers, and whether that is a legal choice within noise.

docs/selections.md states the method. Only indices cross over from a file to its model, never values.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Dict, List, Mapping, Optional, Sequence, Tuple

import numpy as np

BEST = "best"  # the best so many along an axis: TopK, sort, argmax
CUT = "cut"  # a comparison, number by number: a threshold whose survivors are gathered
SUPPRESSION = "suppression"  # of boxes that overlap
NEAR = 0.02  # of the spread of the numbers, by which a file may differ where it reads the same ones: whether they are right is judged
LEAST = 1e-4  # of the largest number: a smaller spread is none, and rounding is near
LARGE = 1e30  # numbers beyond are marks of what is never chosen


@dataclass(frozen=True)
class Choice:
    """What a file chose. node: where; scores: what it chose from, all of them; indices: what it chose.

    BEST: indices count along `axis`, as the file gave them. CUT: scores are left less right of a comparison, indices its booleans.
    SUPPRESSION: scores (images, classes, n), boxes (images, n, 4) as corners, indices (m, 3) of image, class and box; limits: IoU,
    score and number, as the file states them. learned: whether learned layers follow.
    """

    node: str
    scores: np.ndarray
    indices: np.ndarray
    axis: int = 0
    kind: str = BEST
    boxes: Optional[np.ndarray] = None
    learned: bool = True
    limits: Tuple[float, float, int] = (0.0, -np.inf, 0)

    @property
    def rows(self) -> np.ndarray:
        """BEST: (rows, chosen) of what was chosen, one row for each of the other axes' places."""
        wide = self.indices if self.indices.ndim == self.scores.ndim else np.expand_dims(self.indices, self.axis)
        moved: np.ndarray = np.moveaxis(wide, self.axis, -1)
        return moved.reshape(-1, moved.shape[-1])

    @property
    def candidates(self) -> int:
        """BEST: how many there are to choose from in each row."""
        return int(self.scores.shape[self.axis])


@dataclass(frozen=True)
class Forced:
    """A choice that a run of the model was given. operator: of the model; scores: what the model itself read there, in the shape of
    the file's; largest: whether the model takes the largest of them; ordered: whether in their order; taken: how many (0: all that
    pass); same: whether it would have chosen the same by itself; followed: whether what follows was computed from the file's choice.

    SUPPRESSION: one call of the model's, of which a file's node may hold several; scores (n,), boxes (n, 4); indices: those retained
    by the file; threshold: of the IoU; least: of the scores.
    """

    node: str
    operator: str
    scores: np.ndarray
    largest: bool = True
    ordered: bool = True
    taken: int = 0
    same: bool = False
    kind: str = BEST
    call: int = 0
    boxes: Optional[np.ndarray] = None
    indices: Optional[np.ndarray] = None
    threshold: float = 0.0
    least: float = -np.inf
    followed: bool = True

    @property
    def key(self) -> str:
        return f"{self.node} {self.call}" if self.call else self.node


def followed(forced: Sequence[Forced], choices: Sequence[Choice]) -> bool:
    """Whether a run was computed from each of these choices."""
    return {one.node for one in choices} <= {one.node for one in forced if one.followed}


@dataclass(frozen=True)
class Breach:
    """Why a choice is illegal: candidates `first` and `second` of what was read, and by how much more than nothing."""

    what: str
    first: int
    second: int
    by: float


def apart(one: np.ndarray, other: np.ndarray) -> float:
    """The median difference in shares of the spread: a near tie upstream may have moved a few of them further."""
    usable = np.isfinite(other) & (np.abs(other) < LARGE)
    if not usable.any():
        return float("inf")
    one, other = one[usable], other[usable]
    with np.errstate(invalid="ignore", over="ignore"):
        difference = float(np.median(np.abs(one - other)))
    spread = max(float(np.std(other)), LEAST * float(np.abs(other).max()), 1e-300)
    return difference / spread if np.isfinite(difference) else float("inf")


def nearest(choices: Sequence[Choice], kind: str, scores: np.ndarray, candidates: int) -> Optional[Choice]:
    """The choice that was made from these numbers, of several the one whose numbers are nearest. candidates: along the axis."""
    best: Optional[Tuple[float, Choice]] = None
    for choice in choices:
        if choice.kind != kind or choice.scores.size != scores.size:
            continue
        if kind == BEST and choice.candidates != candidates:
            continue
        by = apart(choice.scores.reshape(scores.shape), scores)
        if by <= NEAR and (best is None or by < best[0]):
            best = (by, choice)
    return best[1] if best is not None else None


def completed(own: np.ndarray, chosen: np.ndarray) -> np.ndarray:
    """(rows, k) of what a file chose where the model takes k: the first k, or what is missing from the model's own, in its order."""
    count = own.shape[1]
    if chosen.shape[1] >= count:
        return chosen[:, :count]
    found = []
    for mine, given in zip(own, chosen):
        rest = mine[~np.isin(mine, given)]
        found.append(np.concatenate([given, rest])[:count])
    return np.array(found, own.dtype).reshape(own.shape)


def fitted(own: Choice, choice: Choice) -> np.ndarray:
    """What a file chose, in the shape and number of another's own choice."""
    if own.kind != BEST:
        return choice.indices.reshape(own.indices.shape) if own.kind == CUT else choice.indices
    rows = completed(own.rows, choice.rows)
    wide = own.indices if own.indices.ndim == own.scores.ndim else np.expand_dims(own.indices, own.axis)
    moved = rows.reshape(np.moveaxis(wide, own.axis, -1).shape)
    return np.ascontiguousarray(np.moveaxis(moved, -1, own.axis)).reshape(own.indices.shape)


def breach(choice: Choice, forced: Forced, margin: float) -> Optional[Breach]:
    """Whether a choice is illegal, judged on the numbers the model read; None where no candidate left out beats one that was chosen,
    and none comes before a better one, by more than `margin`."""
    if choice.kind == CUT:
        return _cut(choice, forced, margin)
    return _best(choice, forced, margin)


def _best(choice: Choice, forced: Forced, margin: float) -> Optional[Breach]:
    scores = np.moveaxis(forced.scores.reshape(choice.scores.shape), choice.axis, -1)
    rows: np.ndarray = scores.reshape(-1, choice.candidates) * (1.0 if forced.largest else -1.0)
    indices = choice.rows[:, : forced.taken or None]
    if not indices.size:
        return None
    ordered = np.sort(indices, axis=1)
    again = (ordered[:, 1:] == ordered[:, :-1]).any(1) | (ordered[:, 0] < 0) | (ordered[:, -1] >= rows.shape[1])
    if again.any():
        row = ordered[int(np.flatnonzero(again)[0])]
        return Breach("repeated", int(row[0]), int(row[0]), float("inf"))
    chosen = np.take_along_axis(rows, indices, 1)
    rest = rows.copy()
    np.put_along_axis(rest, indices, -np.inf, 1)
    with np.errstate(invalid="ignore"):
        by = np.nan_to_num(rest.max(1) - chosen.min(1), nan=-np.inf, posinf=np.inf, neginf=-np.inf)
        rises = np.nan_to_num(chosen[:, 1:] - chosen[:, :-1], nan=-np.inf, posinf=np.inf, neginf=-np.inf)
    worst = int(by.argmax())
    if by[worst] > margin:
        first = int(indices[worst, chosen[worst].argmin()])
        return Breach("left out", first, int(rest[worst].argmax()), float(by[worst]))
    if forced.ordered and rises.size and rises.max() > margin:
        row, at = (int(one) for one in np.unravel_index(int(rises.argmax()), rises.shape))
        return Breach("order", int(indices[row, at]), int(indices[row, at + 1]), float(rises.max()))
    return None


def _cut(choice: Choice, forced: Forced, margin: float) -> Optional[Breach]:
    scores = forced.scores.reshape(-1)
    own = (scores > 0) if forced.largest else (scores < 0)
    differ = (own != choice.indices.reshape(-1).astype(bool)) & (np.abs(scores) > margin)
    if not differ.any():
        return None
    at = int(np.where(differ, np.abs(scores), -np.inf).argmax())
    return Breach("cut", at, at, float(abs(scores[at])))


def decides(choice: Choice, forced: Forced, margin: float) -> bool:
    """Whether the numbers leave anything to decide: the best candidate of some row beats the worst by more than the margin, and a
    comparison has numbers beyond the margin."""
    if choice.kind == CUT:
        return bool((np.abs(forced.scores) > margin).any())
    if choice.kind == SUPPRESSION:
        return bool(forced.scores.size) and float(np.ptp(forced.scores)) > margin
    scores = np.moveaxis(forced.scores.reshape(choice.scores.shape), choice.axis, -1)
    usable = np.where(np.abs(scores) < LARGE, scores, np.nan)
    with np.errstate(invalid="ignore"):
        spread = np.nanmax(usable, axis=-1, initial=-np.inf) - np.nanmin(usable, axis=-1, initial=np.inf)
    return bool((spread > margin).any())


def exchanged(choice: Choice, forced: Forced) -> int:
    """How many candidates a file chose that the model, by itself, would not have: near ties, where the choice is legal."""
    if choice.kind == CUT:
        own = (forced.scores.reshape(-1) > 0) if forced.largest else (forced.scores.reshape(-1) < 0)
        return int((own != choice.indices.reshape(-1).astype(bool)).sum())
    if choice.kind == SUPPRESSION:
        return int(not forced.same)
    scores = np.moveaxis(forced.scores.reshape(choice.scores.shape), choice.axis, -1)
    rows: np.ndarray = scores.reshape(-1, choice.candidates) * (1.0 if forced.largest else -1.0)
    indices = choice.rows[:, : forced.taken or None]
    best = np.argsort(-rows, axis=1, kind="stable")[:, : indices.shape[1]]
    return sum(len(set(one.tolist()) - set(other.tolist())) for one, other in zip(indices, best))


def to_message(choices: Sequence[Any], name: str) -> Tuple[List[Dict[str, Any]], Dict[str, np.ndarray]]:
    """Choices, or what was forced, as JSON and arrays."""
    described, arrays = [], {}
    for k, one in enumerate(choices):
        plain = {}
        for field, value in vars(one).items():
            if isinstance(value, np.ndarray):
                arrays[f"{name} {k} {field}"] = value
            else:
                plain[field] = value
        described.append(plain)
    return described, arrays


def from_message(kind: Any, described: Sequence[Mapping[str, Any]], arrays: Mapping[str, np.ndarray], name: str) -> Any:
    """What `to_message` was given, of this class."""
    found = []
    for k, plain in enumerate(described):
        start = f"{name} {k} "
        own = {key[len(start) :]: value for key, value in arrays.items() if key.startswith(start)}
        found.append(kind(**plain, **own))
    return found
