"""Which choice of a file each selecting operator of a model is given, on plain arrays: while the model runs, or after it has.

docs/selections.md states the method.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Dict, List, Optional, Sequence

import numpy as np

from detparity.core.decisions import BEST, CUT, SUPPRESSION, Choice, Forced, completed, nearest
from detparity.oracle.suppressed import retained


@dataclass(frozen=True)
class Operator:
    """A selecting operator of a model, as it ran. own: what it read, and chose by itself; largest, ordered: as `Forced` has them;
    floating: whether it read numbers, and not integers."""

    name: str
    own: Choice
    largest: bool = True
    ordered: bool = False
    floating: bool = True


class Matching:
    """Gives each operator, in the order they run, the choice that was made from the same numbers. forced: what was given; others:
    operators that were left as they are."""

    def __init__(self, choices: Sequence[Choice]) -> None:
        self._left = list(choices)
        self.kinds = frozenset(choice.kind for choice in choices)
        self.forced: List[Forced] = []
        self.others: List[str] = []
        self._calls: Dict[str, int] = {}

    def given(self, operator: Operator) -> Optional[np.ndarray]:
        """BEST: (rows, chosen) indices in place of `Choice.rows` of its own; CUT: booleans; SUPPRESSION: the candidates that it
        retains, best first. None where no choice of the file is its own."""
        kind = operator.own.kind
        if kind == SUPPRESSION:
            return self._suppressed(operator)
        read = operator.own.scores
        choice = nearest(self._left, kind, read, operator.own.candidates if kind == BEST else 0)
        if choice is None:
            self.others += [operator.name] if kind == BEST else []
            return None
        self._left = [one for one in self._left if one is not choice]
        if kind == CUT:
            chosen, own, taken = choice.indices.reshape(read.shape).astype(bool), operator.own.indices, 0
        else:
            own = operator.own.rows
            chosen, taken = completed(own, choice.rows.astype(np.int64)), own.shape[1]
        same = bool(np.array_equal(own, chosen))
        self.forced.append(
            Forced(choice.node, operator.name, read, operator.largest, operator.ordered, taken, same, kind)
        )
        return chosen

    def _suppressed(self, operator: Operator) -> Optional[np.ndarray]:
        """A call is given what the file's node retained of its candidates, in the order of its own scores."""
        own = operator.own
        assert own.boxes is not None
        boxes, scores = own.boxes[0], own.scores[0, 0]
        for choice in self._left:
            if choice.kind != SUPPRESSION or choice.boxes is None:
                continue
            held = retained(choice, boxes, scores)
            if held is None:
                continue
            self._calls[choice.node] = self._calls.get(choice.node, 0) + 1
            same = bool(np.array_equal(held, own.indices[:, 2]))
            self.forced.append(
                Forced(
                    choice.node, operator.name, scores, True, False, 0, same, SUPPRESSION, self._calls[choice.node],
                    boxes, held, own.limits[0],
                )
            )  # fmt: skip
            return held
        self.others.append(operator.name)
        return None


def as_chosen(operators: Sequence[Operator], choices: Sequence[Choice]) -> Optional[List[Forced]]:
    """What a run of the model would be given, of one that was not: nothing it computes would differ. None where it chose otherwise."""
    matching = Matching(choices)
    for operator in operators:
        if operator.own.kind not in matching.kinds or matching.given(operator) is None:
            continue
        if not matching.forced[-1].same:
            return None
    return matching.forced
