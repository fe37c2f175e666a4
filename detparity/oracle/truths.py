"""The oracle of one detector: float64 truth and noise floor of any image, worked out once and kept within a budget."""

from __future__ import annotations

from collections import OrderedDict
from dataclasses import dataclass
from typing import Any, Callable, Dict, Hashable, Iterable, List, Mapping, Sequence, Tuple, TypeVar

import numpy as np

from detparity import images
from detparity.oracle.noise import Truth, make_truth
from detparity.subject import Arrays, ModelFacts, Size

BUDGET_BYTES = 300_000_000
Picture = Tuple[str, int]  # kind, seed
Worth = TypeVar("Worth")


@dataclass(frozen=True)
class Ways:
    """How to run the model: `exact` in float64, and the float32 `ways`, by name. Each takes a feed and returns named arrays."""

    exact: Callable[[Arrays], Arrays]
    ways: Mapping[str, Callable[[Arrays], Arrays]]


class Oracle:
    """Answers `truth(picture, size, head)`; `heads` are those it will be asked for, the decoded one always, all worked out
    from the same runs."""

    def __init__(self, facts: ModelFacts, ways: Ways, heads: Sequence[str] = ("grid",)) -> None:
        self.facts = facts
        self._ways = ways
        self._heads = tuple(dict.fromkeys((*heads, "grid")))
        self._kept: OrderedDict[Tuple[Picture, Size], Dict[str, Truth]] = OrderedDict()
        self._bytes = 0
        self._once: Dict[Hashable, Any] = {}

    def once(self, key: Hashable, work_out: Callable[[], Worth]) -> Worth:
        """What follows from the model alone and is the same for all its artifacts: worked out at the first call with this key."""
        if key not in self._once:
            self._once[key] = work_out()
        found: Worth = self._once[key]
        return found

    def truth(self, picture: Picture, size: Size, head: str) -> Truth:
        """The truth of one image (kind, seed) at a size, for the `raw` or the `grid` head."""
        key = (picture, size)
        if key not in self._kept:
            self._keep(key, self._work_out(picture, size))
        self._kept.move_to_end(key)
        return self._kept[key][head]

    def _work_out(self, picture: Picture, size: Size) -> Dict[str, Truth]:
        feed = {"images": images.make(picture[0], size, picture[1])[None]}
        exact = [value[0] for name, value in self._ways.exact(feed).items() if name.startswith("logits")]
        runs = [way(feed) for way in self._ways.ways.values()]
        return {
            head: make_truth(head, self.facts, size, exact, [_of_head(head, run) for run in runs])
            for head in self._heads
        }

    def _keep(self, key: Tuple[Picture, Size], truths: Dict[str, Truth]) -> None:
        self._kept[key] = truths
        self._bytes += _weight(truths.values())
        while self._bytes > BUDGET_BYTES and len(self._kept) > 1:
            _, dropped = self._kept.popitem(last=False)
            self._bytes -= _weight(dropped.values())


def _of_head(head: str, run: Arrays) -> Arrays:
    if head == "grid":
        return {"output": run["predictions"]}
    return {name: value for name, value in run.items() if name.startswith("logits")}


def _weight(truths: Iterable[Truth]) -> int:
    return sum(level.nbytes for truth in truths for level in truth.levels)


def batch_of(pictures: Sequence[Picture], size: Size) -> np.ndarray:
    """The (B, 3, H, W) float32 batch of these pictures."""
    made: List[np.ndarray] = [images.make(kind, size, seed) for kind, seed in pictures]
    return np.stack(made)
