"""Rows of a selection that have no partner on the other side."""

from __future__ import annotations

from dataclasses import dataclass
from typing import List

import numpy as np

from detparity.checks.foreign.context import ForeignContext
from detparity.checks.foreign.truth import CaseTruth, slack_for
from detparity.core.layout import SCORE
from detparity.core.vocabulary import Arrays
from detparity.oracle.output_floor import in_order_of, tables_of


@dataclass(frozen=True)
class Left:
    """Rows without a partner, in any image. scores: theirs, highest first; slack: how far a score may be off."""

    rows: int
    scores: np.ndarray
    slack: float

    def less_than(self, other: Left) -> bool:
        """Whether fewer are left over, or only such as score less: what a suppression moves, it moves further down."""
        top = [float(one.scores.max(initial=-np.inf)) for one in (self, other)]
        return self.rows < other.rows or top[0] < top[1] - self.slack


def left_over(context: ForeignContext, truth: CaseTruth, model: Arrays, outputs: Arrays, closely: bool = False) -> Left:
    """What has no partner where the model gives these outputs. closely: a partner is one within the floor's limits, so that a row is
    not taken for another candidate's near it."""
    rows, slack = 0, 0.0
    scores: List[np.ndarray] = [np.zeros(0)]
    for image, one in enumerate(truth.images):
        mine = tables_of(context.layout, model, image)
        yours = tables_of(context.layout, {name: outputs[name] for name in truth.outputs}, image)
        limits = slack_for(one.tables, context.layout, one.floor(), closely)
        unmatched = in_order_of(mine, yours, context.layout, limits)[2].unmatched
        rows += sum(map(len, unmatched))
        for group in one.groups:
            if group.field.role == SCORE:
                slack = max(slack, limits[group.field.name])
                scores += [
                    side[group.output][list(left), group.field.start : group.field.stop].reshape(-1)
                    for side, left in zip((mine, yours), unmatched)
                ]
    return Left(rows, -np.sort(-np.concatenate(scores)), slack)
