"""Rows of a selection that have no partner: explained by near ties of the decisions they follow from, each certified, or a defect.

First the model is given the file's own choices at every decision. Where they cannot be shown or matched, near ties of the model's own
decisions are exchanged, one after another, while fewer rows are left over. docs/selections.md states the method.
"""

from __future__ import annotations

import itertools
from dataclasses import dataclass, replace
from typing import List, Optional, Sequence, Tuple

import numpy as np

from detparity.checks.foreign.context import ForeignContext
from detparity.checks.foreign.decided import MARGIN
from detparity.checks.foreign.left_over import Left, left_over
from detparity.checks.foreign.read_back import Rows, read_back
from detparity.checks.foreign.truth import CaseTruth, Refuses
from detparity.core.case import Case
from detparity.core.decisions import SUPPRESSION, Choice
from detparity.core.findings import CannotRun, Finding, Row
from detparity.core.layout import table
from detparity.core.text import listed, number
from detparity.core.vocabulary import Arrays
from detparity.models.reference import EXACT
from detparity.oracle.suppressed import moved
from detparity.oracle.ties import Tie, exchanged, near_ties, suppressed

MOST = 16  # runs in float64, of one tie more each
FEW = 3  # ties of which every several are tried


@dataclass(frozen=True)
class Explained:
    """Choices of the model's under which as many of its rows as were found are the file's; ties: what was exchanged, as text; left:
    rows without a partner; near: near ties of candidates that score as those do,
    where there are so many that not every several of them were tried."""

    choices: Tuple[Choice, ...]
    ties: Tuple[str, ...]
    left: int
    near: int


def uneven(context: ForeignContext, case: Case, truth: CaseTruth, outputs: Arrays) -> Optional[Finding]:
    """Outputs of a selection that do not hold the same rows: what one has more than another is compared with nothing. Raises CannotRun
    where the model's own do not."""
    if not context.layout.selected:
        return None
    named = list(zip(context.layout.outputs, truth.outputs))
    model, file = (
        [len(table(one, np.asarray(side[name]), 0)) for one, name in named] for side in (truth.outputs, outputs)
    )
    rows: List[Row] = [(name, *map(str, counts)) for (_, name), *counts in zip(named, model, file)]
    if len(set(model)) > 1:
        text = ", ".join(f"{name} {count}" for name, count, _ in rows)
        raise CannotRun(
            f"the layout {context.layout.name!r} says that all outputs hold the same rows, and the model's have {text}"
        )
    if len(set(file)) < 2:
        return None
    return Finding(
        f"gives outputs with different numbers of rows at {case}: {listed([f'{name} {count}' for name, _, count in rows], 4)}.",
        (("output", "model", "file"), *rows),
        headed=True,
        evidence={"case": case, "shapes": {name: list(outputs[name].shape) for _, name in named}},
    )


Named = Tuple[int, Tie]  # which choice of the model's, and a tie of it


def by_ties(context: ForeignContext, case: Case, outputs: Arrays) -> Optional[Explained]:
    """What near ties of the model's own decisions explain of the rows that it does not share with the file; None where its decisions
    are not known."""
    images = context.given(case)
    own = context.oracle.decisions(images)
    if not own:
        return None
    truth = context.truth(case, own)
    while context.grow(case, truth):
        pass
    for closely in (True, False):
        search = Search(context, images, own, truth, outputs, closely)
        first = left_over(context, truth, truth.outputs, outputs, closely)
        read = read_back(Rows(context, images, own, truth, outputs), first) if first.rows else None
        left = search.under(read) if read is not None else None
        if read is not None and left is not None and not left.rows:
            return Explained(read, (), 0, 0)
    state, left = search.descended(first)
    near = _near(_ties(own, truth, state), left) if left.rows else []
    if left.rows and len(near) <= FEW:
        state, left = search.every(state, near, left)
        near = []
    names = tuple(_text(own[at], tie) for at, tie in state)
    return Explained(_under(own, truth, state), names, left.rows, len(near))


@dataclass(frozen=True)
class Search:
    """A search for the choices of the model's under which it gives a file's rows; closely: of `left_over`."""

    context: ForeignContext
    images: np.ndarray
    own: Tuple[Choice, ...]
    truth: CaseTruth
    outputs: Arrays
    closely: bool = False

    def left(self, state: Sequence[Named]) -> Optional[Left]:
        """What has no partner with these ties exchanged; None where the model does not run so."""
        return self.under(_under(self.own, self.truth, state))

    def under(self, choices: Sequence[Choice]) -> Optional[Left]:
        """The same where the model is given these choices."""
        try:
            found = self.context.oracle.run_forced(EXACT, self.images, choices)[0]
        except Refuses:
            return None
        return left_over(self.context, self.truth, self.context.named(found), self.outputs, self.closely)

    def descended(self, best: Left) -> Tuple[List[Named], Left]:
        """One tie after another, each that leaves less over. best: what is left over without any."""
        state: List[Named] = []
        tried, failed = 0, 0
        ranked = _ranked(_ties(self.own, self.truth, ()), best)
        while best.rows and failed < len(ranked) and tried < MOST:
            more = [*state, ranked[failed]]
            tried, failed = tried + 1, failed + 1
            now = self.left(more)
            if now is not None and now.less_than(best):
                best, state, failed = now, more, 0
                ranked = _ranked(_ties(self.own, self.truth, state), best)
        return state, best

    def every(self, state: List[Named], near: Sequence[Named], best: Left) -> Tuple[List[Named], Left]:
        """Every several of these ties beside those of `state`."""
        for size in range(1, len(near) + 1):
            for more in itertools.combinations(near, size):
                now = self.left([*state, *more])
                if now is not None and not now.rows:
                    return [*state, *more], now
        return state, best


def _ties(own: Sequence[Choice], truth: CaseTruth, state: Sequence[Named]) -> List[Named]:
    """Near ties of the choices with those of `state` exchanged, on the numbers that the model's own choices imply."""
    found: List[Named] = []
    numbers = {choice.node: at for at, choice in enumerate(own)}
    for forced in truth.forced:
        at = numbers[forced.node]
        choice, margin, move = own[at], MARGIN * truth.noise(forced.key), 0.0
        known = [tie for number_of, tie in state if number_of == at]
        if choice.kind == SUPPRESSION:
            move = moved(choice, MARGIN * truth.move(forced.key))
            forced = replace(forced, indices=suppressed(forced, [tie for tie in known if tie.row == forced.call]))
        elif known:
            choice = exchanged(choice, (), known)
        found += [(at, tie) for tie in near_ties(choice, forced, margin, move) if tie not in known]
    return found


def _under(own: Sequence[Choice], truth: CaseTruth, state: Sequence[Named]) -> Tuple[Choice, ...]:
    """The model's own choices with these ties exchanged, up to the last of them: what follows then follows by itself."""
    last = max((at for at, _ in state), default=-1)
    found = []
    for at, choice in enumerate(own[: last + 1]):
        ties = [tie for number_of, tie in state if number_of == at]
        read = [forced for forced in truth.forced if forced.node == choice.node]
        found.append(exchanged(choice, read, ties) if ties and read else choice)
    return tuple(found)


def _near(ties: Sequence[Named], left: Left) -> List[Named]:
    """The ties of candidates that score as rows without a partner do."""
    return [one for one in ties if one[1].scores and left.scores.size and _away(one[1], left) <= left.slack]


def _away(tie: Tie, left: Left) -> float:
    return float(np.abs(left.scores[:, None] - np.array(tie.scores)[None]).min(initial=np.inf))


def _ranked(ties: Sequence[Named], left: Left) -> List[Named]:
    """Ties of candidates that score as rows without a partner do, of the highest row first, then those whose scores say nothing; all
    of them where none is near."""

    def near(tie: Tie) -> Tuple[int, float]:
        away = np.abs(left.scores[:, None] - np.array(tie.scores)[None]).min(axis=1, initial=np.inf)
        rows = np.flatnonzero(away <= left.slack)
        return (int(rows[0]), float(away[rows[0]])) if len(rows) else (len(away), np.inf)

    ranks = [near(tie) for _, tie in ties]
    if not any(rank < len(left.scores) for rank, _ in ranks):
        return sorted(ties, key=lambda one: one[1].by)
    silent = len(left.scores) - 0.5
    keys = [(silent if not tie.scores else rank, away, tie.by) for (rank, away), (_, tie) in zip(ranks, ties)]
    order = sorted(range(len(ties)), key=lambda at: keys[at])
    return [ties[at] for at in order if keys[at][0] < len(left.scores)]


TEXTS = {
    "cut": "candidate {0} at the threshold",
    "left out": "candidate {1} in place of {0}",
    "order": "candidate {1} before {0}",
    "overlap": "whether candidate {0} suppresses {1}",
    "both": "whether candidate {0} comes before {1} and suppresses it",
}


def _text(choice: Choice, tie: Tie) -> str:
    return f"{choice.node}: {TEXTS[tie.what].format(*tie.first)} ({number(tie.by)} from being decided so)"
