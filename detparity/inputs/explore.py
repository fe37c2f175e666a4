"""Searching a space of cases for one that fails: those it names, then drawn ones. Hypothesis is imported where something is drawn:
that takes 0.3 s of processor time.
"""

from __future__ import annotations

from dataclasses import replace
from typing import Callable, List, Sequence, Tuple

import numpy as np

from detparity.core.case import Case, Judge, Space
from detparity.core.findings import Finding
from detparity.core.vocabulary import Size


def explore(space: Space, judge: Judge) -> Sequence[Finding]:
    """Try the cases a space names, then drawn ones; return the findings of the smallest case found to fail.

    Deterministic: the draws depend on the space alone. After a failure only smaller cases of the same space are tried.
    """
    for case in space.always:
        found = judge(case)
        if found:
            return _smallest(space, judge, case, found)
    return _drawn(space, judge) if space.draws else ()


def glance(space: Space, judge: Judge) -> Sequence[Finding]:
    """What `detparity check --quick` does instead of `explore`: the first of the cases a space names, and no drawn ones."""
    return explore(replace(space, always=space.always[:1], draws=0), judge)


def explore_predictions(
    images: Tuple[int, int],
    classes: int,
    side: int,
    score_threshold: float,
    draws: int,
    judge: Callable[[np.ndarray], Sequence[Finding]],
) -> Sequence[Finding]:
    """Feed drawn predictions (batch, rows, 5 + classes) to `judge`; return the findings of the smallest that
    fail, or none.

    Deterministic: the draws depend on the arguments alone.
    """
    from detparity.inputs.box_strategies import predictions
    from detparity.inputs.search import smallest_failure

    drawn = predictions(
        images=images, boxes=(0, 8), classes=(classes, classes), side=side, score_threshold=score_threshold
    )
    return smallest_failure(drawn, judge, draws)


def _drawn(space: Space, judge: Judge) -> Sequence[Finding]:
    from detparity.inputs.case_strategies import cases
    from detparity.inputs.search import smallest_failure

    return smallest_failure(cases(space), judge, space.draws)


def _smallest(space: Space, judge: Judge, case: Case, found: Sequence[Finding]) -> Sequence[Finding]:
    """Shrink a named case by hand: fewer pictures, plainer pictures, smaller sides, while it still fails."""
    current, best = case, found
    improved = True
    while improved:
        improved = False
        for smaller in _smaller(space, current):
            result = judge(smaller)
            if result:
                current, best, improved = smaller, result, True
                break
    return best


def _smaller(space: Space, case: Case) -> List[Case]:
    found: List[Case] = []
    low, _ = space.batches
    if len(case.pictures) > low:
        found.append(Case(case.size, case.pictures[: max(low, len(case.pictures) // 2)]))
    if space.only is None:
        for size in _smaller_sizes(case.size, space.stride, space.least):
            found.append(Case(size, case.pictures))
    plain = tuple((space.kinds[0], slot) for slot in range(len(case.pictures)))
    if plain != case.pictures:
        found.append(Case(case.size, plain))
    return found


def _smaller_sizes(size: Size, stride: int, least: int) -> List[Size]:
    height, width = size
    halves = [max(least, side // 2 // stride * stride) for side in size]
    sizes = [(halves[0], halves[1]), (halves[0], width), (height, halves[1])]
    sizes += [(height - stride, width)] if height > least else []
    sizes += [(height, width - stride)] if width > least else []
    return [candidate for candidate in sizes if candidate != size]
