"""Near ties: each is found, exchanging one gives a choice that the certificate accepts, and nothing decided is taken for one."""

from __future__ import annotations

import numpy as np
import pytest

from detparity.core.decisions import BEST, CUT, SUPPRESSION, Choice, Forced
from detparity.core.decisions import breach as illegal
from detparity.oracle.suppressed import breach
from detparity.oracle.ties import exchanged, near_ties

IOU, MARGIN, MOVE = 0.5, 1e-6, 1e-4


def _pair(overlap):
    """Two boxes of this IoU, and one that overlaps neither."""
    return np.array([[0.0, 0, 10, 10], [0, 0, 10 * overlap, 10], [50, 0, 60, 10]])


def _suppressed(boxes, scores, held):
    held = np.array(held)
    indices = np.stack([np.zeros_like(held), np.zeros_like(held), held], 1)
    choice = Choice("x", scores[None, None], indices, 0, SUPPRESSION, boxes[None])
    return choice, Forced("x", "nms", scores, False, False, 0, False, SUPPRESSION, 1, boxes, held, IOU)


@pytest.mark.parametrize(
    ("overlap", "second", "held", "other"),
    [
        (IOU + 1e-6, 0.8, [0, 2], [0, 1, 2]),  # suppressed by no more than noise
        (IOU - 1e-6, 0.8, [0, 1, 2], [0, 2]),
        (0.9, 0.9 - 5e-7, [0, 2], [1, 2]),  # which of two that overlap comes first
    ],
)
def test_a_tie_is_named_and_exchanged_legally(overlap, second, held, other):
    scores = np.array([0.9, second, 0.5])
    choice, forced = _suppressed(_pair(overlap), scores, held)

    (tie,) = near_ties(choice, forced, MARGIN, MOVE)
    moved = exchanged(choice, [forced], [tie])
    held = moved.indices[:, 2]

    assert held.tolist() == other and set(tie.first) == {0, 1}
    assert breach(choice, _suppressed(_pair(overlap), scores, held)[1], MARGIN, MOVE) is None


def test_what_noise_does_not_reach_is_no_tie():
    for overlap, second in ((IOU + 1e-2, 0.8), (IOU - 1e-2, 0.8), (0.9, 0.9 - 1e-3)):
        held = [0, 2] if overlap > IOU else [0, 1, 2]
        choice, forced = _suppressed(_pair(overlap), np.array([0.9, second, 0.5]), held)
        assert near_ties(choice, forced, MARGIN, MOVE) == []


def test_what_follows_from_a_tie_follows():
    """One that is dropped no longer suppresses the next."""
    boxes = np.array([[0.0, 0, 10, 10], [0, 0, 10 * (IOU - 1e-6), 10], [0, 0, 4, 10]])
    choice, forced = _suppressed(boxes, np.array([0.9, 0.8, 0.7]), [0, 1])
    (tie,) = [one for one in near_ties(choice, forced, MARGIN, MOVE) if one.what == "overlap"]

    assert exchanged(choice, [forced], [tie]).indices[:, 2].tolist() == [0, 2]


def test_the_best_so_many_and_a_threshold():
    scores = np.array([[3.0, 2.0, 2.0 - 5e-7, 1.0]])
    choice, forced = Choice("x", scores, np.array([[0, 1]]), 1), Forced("x", "topk", scores, taken=2)
    (tie,) = near_ties(choice, forced, MARGIN, 0.0)
    moved = exchanged(choice, [forced], [tie])
    assert moved.indices.tolist() == [[0, 2]] and moved.kind == BEST and illegal(moved, forced, MARGIN) is None

    numbers = np.array([0.5, 5e-7, -0.5])
    choice, forced = Choice("x", numbers, numbers > 0, 0, CUT), Forced("x", "gt", numbers, kind=CUT)
    (tie,) = near_ties(choice, forced, MARGIN, 0.0)
    assert exchanged(choice, [forced], [tie]).indices.tolist() == [True, False, False]
