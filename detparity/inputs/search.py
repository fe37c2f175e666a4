"""Searching what a strategy draws for the smallest thing that fails a judge."""

from __future__ import annotations

import contextlib
from typing import Callable, Iterator, List, Sequence, TypeVar
from unittest import mock

from hypothesis import HealthCheck, Phase, given, settings
from hypothesis import strategies as st
from hypothesis.internal.conjecture import providers

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
        with _no_constants_of_code():
            run()
    except _Failing:
        return failing[-1]
    return ()


@contextlib.contextmanager
def _no_constants_of_code() -> Iterator[None]:
    """Draw the same whatever was imported. Newer versions of hypothesis also draw numbers that they read, for seconds, in the sources
    of all imported code outside site-packages."""
    if not hasattr(providers, "_get_local_constants") or not hasattr(providers, "CONSTANTS_CACHE"):
        yield
        return
    nothing = providers.Constants()
    cache = type(providers.CONSTANTS_CACHE)(1024)
    with mock.patch.multiple(providers, _get_local_constants=lambda: nothing, CONSTANTS_CACHE=cache):
        yield
