"""Rows of a selection that are far from all of the model's: a defect, whatever nearly ties."""

from __future__ import annotations

from typing import Dict, List, Sequence

import numpy as np

from detparity.checks.foreign.context import ForeignContext
from detparity.core.case import Case
from detparity.core.vocabulary import Arrays
from detparity.oracle.output_floor import Group, Tables, tables_of
from detparity.oracle.row_matching import typical_distance

# Of a column's spread: no near tie moves the median row so far from all of the model's (docs/selections.md).
FAR_OFF = 0.3
MANY_ROWS = 32  # rows of which that holds


def far_off(context: ForeignContext, case: Case, outputs: Arrays) -> bool:
    """Whether the rows of an image are plainly wrong beside the model's own."""
    truth = context.truth(case)
    own = {name: outputs[name] for name in truth.outputs}
    return any(
        plainly_wrong(one.groups, one.tables, tables_of(context.layout, own, image))
        for image, one in enumerate(truth.images)
    )


def plainly_wrong(groups: Sequence[Group], one: Tables, other: Tables) -> bool:
    """Whether most rows are far from any of the other side's, which no exchange of nearly tied candidates explains. Of few rows that
    attend to one another, one exchange moves them all."""
    joined: Dict[int, List[Group]] = {}
    for group in groups:
        joined.setdefault(len(group.of(one)), []).append(group)
    for count, parts in joined.items():
        sides = [np.concatenate([group.of(side) for group in parts], axis=1) for side in (one, other)]
        scales = [np.full(group.of(one).shape[1], max(float(np.std(group.of(one))), 1e-300)) for group in parts]
        if count >= MANY_ROWS and typical_distance(sides[0], sides[1], np.concatenate(scales)) > FAR_OFF:
            return True
    return False
