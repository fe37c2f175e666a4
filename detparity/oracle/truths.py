"""The oracle of one detector: float64 truth and noise floor of any image, worked out once and kept within a budget.

The floor is the largest error of several ways of running float32, so it only grows with each of them: what is within the floor of
the first way is within the floor of all, and the others need not be run. Most files are right, so most of the work is never done.
"""

from __future__ import annotations

from collections import OrderedDict
from dataclasses import dataclass, replace
from typing import Any, Callable, Dict, Hashable, Iterator, List, Mapping, Sequence, Tuple, TypeVar

import numpy as np

from detparity import images
from detparity.oracle.noise import Truth, larger, make_truth
from detparity.subject import Arrays, ModelFacts, Size

BUDGET_BYTES = 300_000_000
Picture = Tuple[str, int]  # kind, seed
Worth = TypeVar("Worth")


@dataclass(frozen=True)
class Ways:
    """How to run the model: `exact` in float64, and the float32 `ways`, by name. Each takes a feed and returns named arrays."""

    exact: Callable[[Arrays], Arrays]
    ways: Mapping[str, Callable[[Arrays], Arrays]]


@dataclass(frozen=True)
class _Kept:
    """What is known of one image: the truths by head, and for as long as ways of the floor are left to run, the float64 logits."""

    truths: Mapping[str, Truth]
    exact: Tuple[np.ndarray, ...] = ()

    @property
    def nbytes(self) -> int:
        levels = [level for truth in self.truths.values() for level in truth.levels]
        return sum(array.nbytes for array in (*levels, *self.exact))


class Oracle:
    """Answers `truth(picture, size, head)`; `heads` are those it will be asked for, the decoded one always, all worked out
    from the same runs."""

    def __init__(self, facts: ModelFacts, ways: Ways, heads: Sequence[str] = ("grid",)) -> None:
        self.facts = facts
        self._ways = ways
        self._heads = tuple(dict.fromkeys((*heads, "grid")))
        self._kept: OrderedDict[Tuple[Picture, Size], _Kept] = OrderedDict()
        self._once: Dict[Hashable, Any] = {}

    def once(self, key: Hashable, work_out: Callable[[], Worth]) -> Worth:
        """What follows from the model alone and is the same for all its artifacts: worked out at the first call with this key."""
        if key not in self._once:
            self._once[key] = work_out()
        found: Worth = self._once[key]
        return found

    def truth(self, picture: Picture, size: Size, head: str) -> Truth:
        """The truth of one image (kind, seed) at a size, for the `raw` or the `grid` head, its floor that of all ways."""
        key = (picture, size)
        kept = self._found(key)
        if kept.exact:
            kept = self._keep(key, self._completed(key, kept))
        return kept.truths[head]

    def growing(self, picture: Picture, size: Size, head: str) -> Iterator[Truth]:
        """The same truth with the floor of the first way, then with that of all: whoever is content with the former stops there."""
        kept = self._found((picture, size))
        yield kept.truths[head]
        if kept.exact:
            yield self.truth(picture, size, head)

    def _found(self, key: Tuple[Picture, Size]) -> _Kept:
        if key not in self._kept:
            self._keep(key, self._begun(key))
        self._kept.move_to_end(key)
        return self._kept[key]

    def _begun(self, key: Tuple[Picture, Size]) -> _Kept:
        """The exact run and the first way."""
        feed = _feed(key)
        exact = tuple(value[0] for name, value in self._ways.exact(feed).items() if name.startswith("logits"))
        return _Kept(self._made(key, exact, [next(iter(self._ways.ways.values()))(feed)]), exact)

    def _completed(self, key: Tuple[Picture, Size], kept: _Kept) -> _Kept:
        """The other ways as well."""
        feed = _feed(key)
        runs = [way(feed) for way in list(self._ways.ways.values())[1:]]
        if not runs:
            return _Kept(kept.truths)
        more = self._made(key, kept.exact, runs)
        return _Kept(
            {head: replace(truth, floor=larger(truth.floor, more[head].floor)) for head, truth in kept.truths.items()}
        )

    def _made(self, key: Tuple[Picture, Size], exact: Sequence[np.ndarray], runs: Sequence[Arrays]) -> Dict[str, Truth]:
        return {
            head: make_truth(head, self.facts, key[1], exact, [_of_head(head, run) for run in runs])
            for head in self._heads
        }

    def _keep(self, key: Tuple[Picture, Size], kept: _Kept) -> _Kept:
        """Keep this and let go of what was longest unused, while there is more than the budget."""
        self._kept[key] = kept
        while sum(one.nbytes for one in self._kept.values()) > BUDGET_BYTES and len(self._kept) > 1:
            self._kept.popitem(last=False)
        return kept


def _feed(key: Tuple[Picture, Size]) -> Dict[str, np.ndarray]:
    (kind, seed), size = key
    return {"images": images.make(kind, size, seed)[None]}


def _of_head(head: str, run: Arrays) -> Arrays:
    if head == "grid":
        return {"output": run["predictions"]}
    return {name: value for name, value in run.items() if name.startswith("logits")}


def batch_of(pictures: Sequence[Picture], size: Size) -> np.ndarray:
    """The (B, 3, H, W) float32 batch of these pictures."""
    made: List[np.ndarray] = [images.make(kind, size, seed) for kind, seed in pictures]
    return np.stack(made)
