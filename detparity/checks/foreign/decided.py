"""What a file chose inside its network: whether it is legal, and what it explains. docs/selections.md states the method."""

from __future__ import annotations

from dataclasses import replace
from typing import Dict, List, Optional, Sequence, Tuple

import numpy as np

from detparity.checks.foreign.context import ForeignContext
from detparity.checks.foreign.truth import CaseTruth
from detparity.core.case import Case
from detparity.core.decisions import BEST, CUT, SUPPRESSION, Breach, Choice, Forced, breach, decides, nearest
from detparity.core.findings import Finding
from detparity.core.text import listed, number
from detparity.oracle import suppressed
from detparity.oracle.output_floor import Excess, excesses, measure

TOPK = "aten::topk"
MARGIN = 2.0  # times the noise of what is chosen from: either of two candidates may be off by as much


def certified(truth: CaseTruth, case: Case) -> Optional[Finding]:
    """The finding about the first choice that is illegal, or whose numbers are off; None where every one is legal."""
    choices = {one.node: one for one in truth.choices}
    for forced in truth.forced:
        wrong: Optional[Breach] = None
        choice, noise = choices[forced.node], truth.noise(forced.key)
        if choice.kind != SUPPRESSION:
            wrong = breach(choice, forced, MARGIN * noise)
        else:
            wrong = suppressed.breach(choice, forced, MARGIN * noise, MARGIN * truth.move(forced.key))
        if wrong is not None:
            return _illegal(case, choice, forced, wrong, noise)
        if choice.kind == SUPPRESSION:
            continue
        over = _numbers(truth, choice)
        if over and not (forced.followed and truth.unmatched()):  # one of which may come before
            return _off(case, forced, over[0])
    return None


def _numbers(truth: CaseTruth, choice: Choice) -> List[Excess]:
    """Where the numbers a file chose from are further from the model's than float32 explains."""
    one = truth.decided[choice.node]
    found = {choice.node: choice.scores.reshape(-1, 1)}
    return excesses(one.tables, found, measure(one.tables, found, one.groups), one.floor())


def explained(finding: Finding, truth: CaseTruth) -> Finding:
    """A finding about outputs, with what was done about the choices inside."""
    followed = list(dict.fromkeys(one.node for one in truth.forced if one.followed))
    if not followed:
        return finding
    nodes = listed(followed, 3)
    notes = [f"The model was given what the file chose at {nodes}; each choice is legal."]
    return replace(finding, notes=(*finding.notes, *notes, *counts(truth)))


def counts(truth: CaseTruth) -> List[str]:
    """Where the file takes another number of candidates than the model."""
    choices = {one.node: one for one in truth.choices}
    found = []
    for forced in truth.forced:
        choice = choices[forced.node]
        if choice.kind != BEST or not choice.rows.size:
            continue
        own, every = choice.rows.shape[1], choice.candidates
        if own != forced.taken and every not in (own, forced.taken):
            found.append(f"At {forced.node} it takes the best {own} of {every}, the model {forced.taken}.")
    return found


def other_count(context: ForeignContext, case: Case) -> Optional[Finding]:
    """The finding about a node that takes another number of the best than every `topk` of the model's of the same numbers. Where one
    takes all, what is taken of them later decides. Outputs need not show it: the last one is seldom among the rows."""
    agreed = {(one.node, one.taken) for one in context.chosen_truth(case).forced if one.operator == TOPK}
    every = context.takes_best_last
    chosen = [one for one in context.choices(case, every=every) if one.kind == BEST and one.rows.size]
    chosen = [one for one in chosen if (one.node, one.rows.shape[1]) not in agreed]
    own = [one for one in context.oracle.decisions(context.given(case)) if one.node.startswith(TOPK)] if chosen else []
    for choice in chosen:
        same = [one for one in own if nearest([one], BEST, choice.scores, choice.candidates) is not None]
        taken, counts = choice.rows.shape[1], {one.rows.shape[1] for one in same}
        if counts and not {taken, choice.candidates} & counts and taken != choice.candidates:
            return Finding(
                f"takes another number of candidates than the model at {case}: at {choice.node}, the best {taken} of "
                f"{choice.candidates}, where the model takes {listed(sorted(map(str, counts)), 3)}.",
                notes=(
                    "On these pictures the rows are the same; where the last candidates are among them, they are not.",
                ),
                evidence={"case": case, "node": choice.node, "taken": taken, "model": sorted(counts)},
            )
    return None


def undecided(context: ForeignContext, cases: Sequence[Case]) -> str:
    """Why the choices that learned layers follow prove nothing, as a clause: on no picture does one candidate beat another by more
    than noise. Empty where something decides."""
    figures: Dict[str, Tuple[int, float, float]] = {}
    for case in cases:
        truth = context.chosen_truth(case)
        choices = {one.node: one for one in truth.choices}
        for forced in truth.forced:
            choice, noise = choices[forced.node], truth.noise(forced.key)
            if not choice.learned or choice.kind == CUT or figures.get(forced.node, (0,))[0] < 0:
                continue
            spread = float(np.ptp(forced.scores)) if forced.scores.size else 0.0
            decided = -1 if decides(choice, forced, MARGIN * noise) else forced.scores.size
            figures[forced.node] = (decided, spread, noise)
    for node, (count, spread, noise) in figures.items():
        if count >= 0:
            return (
                f"nothing decides: the {count} candidates at {node} lie within {number(spread)} of one another on all of "
                f"{len(cases)} pictures, where float32 itself is off by {number(noise)}"
            )
    return ""


def too_few(context: ForeignContext, text: str) -> List[str]:
    """What is to be known where a file does not run since it takes more candidates than there are."""
    if "k argument" not in text and "TopK" not in text:
        return []
    taken = listed([f"{node} the best {count}" for node, count in context.best_of.items()], 3)
    return [
        f"It takes a fixed number of candidates ({taken}), and at this size there are fewer: the model takes all of them."
    ]


def not_compared(context: ForeignContext, truth: CaseTruth) -> str:
    """Why a difference of outputs cannot be called a defect, as a clause; empty where it can. In a selection of rows, what no learned
    layer follows is judged with the rows."""
    if context.hidden:
        return f"what it chose cannot be shown: {context.hidden}"
    if truth.unfollowed():
        return f"the capture stored no run of the model under what it chose at {listed(truth.unfollowed(), 3)}"
    selected = context.layout.selected
    nodes = [one.node for one in truth.unmatched() if one.learned or not selected]
    nodes += [] if selected else list(context.uncovered)
    return f"what it chose at {listed(nodes, 3)} could not be matched with a choice of the model's" if nodes else ""


def _illegal(case: Case, choice: Choice, forced: Forced, wrong: Breach, noise: float) -> Finding:
    texts = {
        "left out": f"candidate {wrong.first} in place of {wrong.second}",
        "order": f"candidate {wrong.first} comes before {wrong.second}, which is better",
        "repeated": f"candidate {wrong.first} is there twice, or does not exist",
        "overlap": f"candidates {wrong.first} and {wrong.second} are both there and overlap by more than {forced.threshold:g}",
        "not suppressed": f"candidate {wrong.first} is not there, and no better one overlaps it",
        "cut": f"candidate {wrong.first} is on the other side of the threshold",
    }
    notes = {
        "left out": "A candidate that was left out beats one that was chosen by more than noise explains.",
        "order": "The model takes its candidates in order of score: what follows a query's rank follows another query here.",
    }
    rows = [
        ("better by" if wrong.what != "cut" else "beyond the threshold by", number(wrong.by)),
        ("float32 noise", number(noise)),
        ("allowed", number(MARGIN * noise)),
        ("candidates", str(forced.scores.size)),
    ]
    return Finding(
        f"chooses wrongly inside the network at {case}: at {forced.node}, {texts[wrong.what]}.",
        tuple(rows),
        notes=(notes.get(wrong.what, "Noise does not explain it."),),
        evidence={"case": case, "node": forced.node, "margin": wrong.by, "noise": noise},
    )


def _off(case: Case, forced: Forced, over: Excess) -> Finding:
    rows = (
        ("statistic", over.statistic),
        ("error", number(over.error)),
        ("floor", number(over.floor)),
        ("floors", f"{over.floors:.3g}"),
        ("limit", f"{over.limit:.3g}"),
    )
    return Finding(
        f"chooses inside the network by other numbers than the model at {case}: what {forced.node} reads is off by "
        f"{number(over.error)} ({over.statistic}), {over.floors:.3g} floors where {over.limit:.3g} are the limit.",
        rows,
        notes=("On this picture it makes a legal choice all the same; on others it need not.",),
        evidence={"case": case, "node": forced.node, "error": over.error, "floors": over.floors},
    )
