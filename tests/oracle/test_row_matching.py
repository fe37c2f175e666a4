"""Pairs of rows against every assignment there is: as many as can be, within limits, one to one."""

from __future__ import annotations

import itertools

import numpy as np
from detparity.kit.tests.examples import examples
from hypothesis import example, given, settings
from hypothesis import strategies as st

from detparity.oracle.row_matching import matched

FAST = settings(max_examples=examples(150), derandomize=True, database=None, deadline=None)
LIMITS = np.array([1.0, 0.5])
VALUES = st.one_of(st.integers(-3, 3).map(float), st.just(float("nan")), st.just(float("inf")))
ROWS = st.lists(st.tuples(VALUES, VALUES), max_size=5).map(lambda rows: np.array(rows, float).reshape(-1, 2))


def _near(one, other):
    with np.errstate(invalid="ignore"):
        return bool(np.all(np.abs(one - other) <= LIMITS))


def _most(one, other):
    """The largest number of pairs, by trying every assignment."""
    short, long = (one, other) if len(one) <= len(other) else (other, one)
    return max(
        sum(_near(row, long[k]) for row, k in zip(short, order))
        for order in itertools.permutations(range(len(long)), len(short))
    )


@FAST
@given(ROWS, ROWS)
@example(
    np.array([[0.0, 0], [1, 0]]), np.array([[1.0, 0], [2, 0]])
)  # the nearest partner of one is the only one of the other
@example(np.array([[0.0, 0], [1, 0], [2, 0]]), np.array([[-1.0, 0], [0, 0], [1, 0]]))
def test_as_many_pairs_as_can_be(one, other):
    pairs = matched(one, other, LIMITS)
    assert len(pairs) == _most(one, other)
    assert len({row for row, _ in pairs}) == len({row for _, row in pairs}) == len(pairs)
    assert all(_near(one[a], other[b]) for a, b in pairs)
    assert pairs == sorted(pairs)
    assert matched(one, other, LIMITS, every=True) == (pairs if len(pairs) == len(one) else [])


@FAST
@given(st.permutations(range(7)), st.floats(-0.2, 0.2))
def test_rows_far_apart_find_their_own(order, shift):
    one = np.arange(7.0).reshape(-1, 1).repeat(2, 1) * 10
    pairs = matched(one, one[list(order)] + shift, LIMITS)
    assert pairs == [(row, order.index(row)) for row in range(7)]


def test_the_nearest_is_preferred():
    assert matched(np.array([[0.0, 0]]), np.array([[0.9, 0], [0.1, 0], [0.5, 0]]), LIMITS) == [(0, 1)]


def test_a_long_chain():
    """Every row but the last takes the next one's first partner: one path of a thousand moves."""
    one = np.arange(300.0).reshape(-1, 1)
    other = one + 0.4
    limits = np.array([0.61])
    assert len(matched(one, other, limits)) == 300
    assert len(matched(one[::-1], other, limits)) == 300
