"""Searching what a strategy draws for the smallest thing that fails a judge."""

from __future__ import annotations

from typing import Callable, List, Sequence, TypeVar

from hypothesis import HealthCheck, Phase, given, settings
from hypothesis import strategies as st

from detparity.core.findings import Finding

T = TypeVar("T")


class _Failing(Exception):
    """Signals to hypothesis that a draw failed, so that it shrinks it."""


def smallest_failure(
    strategy: st.SearchStrategy[T], judge: Callable[[T], Sequence[Finding]], draws: int
) -> Sequence[Finding]:
    """Judge `draws` draws; return the findings of the smallest that fails, or none. The draws depend on the strategy alone."""
    failing: List[Sequence[Finding]] = []

    @settings(
        max_examples=draws,
        derandomize=True,
        database=None,
        deadline=None,
        phases=(Phase.generate, Phase.shrink),
        suppress_health_check=list(HealthCheck),
        report_multiple_bugs=False,
    )
    @given(drawn=strategy)
    def run(drawn: T) -> None:
        found = judge(drawn)
        if found:
            failing.append(found)
            raise _Failing

    try:
        run()
    except _Failing:
        return failing[-1]
    return ()
