"""The explorer of cases: it finds what fails, shrinks it, and does the same every time."""

from __future__ import annotations

import pytest
from hypothesis import given, settings

from detparity.core.case import Case, Space
from detparity.core.errors import InputError
from detparity.core.findings import Finding
from detparity.inputs import case_strategies
from detparity.inputs.explore import explore

SPACE = Space((), 30, stride=32, least=32, most=320, batches=(1, 4), kinds=("noise", "natural", "dark"))


def _failing_when(predicate):
    tried = []

    def judge(case):
        tried.append(case)
        return [Finding(f"fails at {case}")] if predicate(case) else []

    return judge, tried


@settings(max_examples=60, derandomize=True, database=None, deadline=None)
@given(case=case_strategies.cases(SPACE))
def test_cases_stay_in_their_space(case):
    assert all(32 <= side <= 320 and side % 32 == 0 for side in case.size)
    assert 1 <= len(case.pictures) <= 4
    assert {kind for kind, _ in case.pictures} <= {"noise", "natural", "dark"}


def test_a_drawn_failure_shrinks_to_the_smallest_case():
    judge, _ = _failing_when(lambda case: case.size[0] >= 96 and len(case.pictures) >= 2)

    found = explore(SPACE, judge)

    assert [finding.message for finding in found] == [f"fails at {Case((96, 32), (('noise', 0), ('noise', 0)))}"]


def test_a_named_failure_shrinks_as_well():
    judge, _ = _failing_when(lambda case: case.size[1] >= 64)
    named = Case((320, 320), (("dark", 3), ("natural", 1)))
    space = Space((named,), 0, stride=32, least=32, most=320, batches=(1, 4))

    found = explore(space, judge)

    assert found[0].message == f"fails at {Case((32, 64), (('noise', 0),))}"


def test_a_fixed_size_is_never_left():
    judge, tried = _failing_when(lambda case: True)
    space = Space((Case((64, 96), (("dark", 1),)),), 3, stride=32, only=(64, 96), kinds=("noise",))

    explore(space, judge)

    assert {case.size for case in tried} == {(64, 96)}


def test_the_same_space_gives_the_same_cases():
    first, seen = _failing_when(lambda case: False)
    second, again = _failing_when(lambda case: False)
    explore(SPACE, first)
    explore(SPACE, second)

    assert seen == again
    assert len(set(seen)) > 10


def test_an_impossible_range_is_refused_with_its_numbers():
    with pytest.raises(InputError, match="no size between 40 and 60 is a multiple of the stride 64"):
        case_strategies.sizes(stride=64, least=40, most=60)
