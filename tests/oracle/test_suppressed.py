"""Suppression inside a network: parts of a node's candidates are found again, legal results pass, and single changes do not."""

from __future__ import annotations

import numpy as np
import pytest

from detparity.core.decisions import SUPPRESSION, Choice, Forced
from detparity.oracle.boxes import pairwise_iou
from detparity.oracle.suppressed import breach, retained

IOU = 0.5


def _greedy(boxes, scores):
    held = []
    for index in np.argsort(-scores, kind="stable"):
        if all(pairwise_iou(boxes[index : index + 1], boxes[one : one + 1])[0, 0] <= IOU for one in held):
            held.append(int(index))
    return np.array(held)


def _drawn(seed, count=60):
    rng = np.random.default_rng(seed)
    low = rng.uniform(0, 80, (count, 2))
    boxes = np.concatenate([low, low + rng.uniform(10, 40, (count, 2))], 1)
    return boxes, rng.random(count), rng.integers(0, 3, count)


def _node(boxes, scores, held):
    indices = np.stack([np.zeros_like(held), np.zeros_like(held), held], 1)
    return Choice("/NMS", scores[None, None], indices, 0, SUPPRESSION, boxes[None], True, (IOU, 0.0, 0))


def _forced(boxes, scores, held):
    return Forced("/NMS", "nms", scores, True, False, 0, False, SUPPRESSION, 1, boxes, np.asarray(held, int), IOU)


@pytest.mark.parametrize("seed", range(5))
def test_a_call_by_class_is_found_among_the_candidates_of_one_node(seed):
    """A file moves the boxes of classes apart and suppresses once; a model suppresses class by class."""
    boxes, scores, classes = _drawn(seed)
    moved = boxes + 200 * classes[:, None]
    held = _greedy(moved, scores)
    choice = _node(moved, scores, held)

    for kind in range(3):
        own = np.flatnonzero(classes == kind)
        mine = retained(choice, boxes[own], scores[own] + 1e-9)
        assert list(own[mine]) == [one for one in held if one in own]
        assert breach(choice, _forced(boxes[own], scores[own], mine), 0.0, 0.0) is None
    assert retained(choice, boxes[own] + np.array([0, 0, 5, 0]), scores[own]) is None


def test_every_single_change_of_a_suppression_is_found():
    found = set()
    for seed in range(20):
        boxes, scores, _ = _drawn(seed)
        held = _greedy(boxes, scores)
        choice = _node(boxes, scores, held)
        for changed in (held[1:], held[:-1], [*held, next(k for k in range(len(scores)) if k not in held)]):
            wrong = breach(choice, _forced(boxes, scores, changed), 1e-7, 1e-5)
            assert wrong is not None
            found.add(wrong.what)
    assert found == {"overlap", "not suppressed"}


def test_near_ties_of_scores_and_overlaps_are_legal():
    boxes = np.array([[0.0, 0, 10, 10], [0, 0, 10, 10.0001], [50, 0, 60, 10], [50, 0, 60, 20.0]])
    scores = np.array([0.9, 0.9 + 1e-9, 0.5, 0.4])

    for held in ([0, 2, 3], [1, 2, 3], [1, 2]):  # either of the first two; the last overlaps by just the threshold
        assert breach(_node(boxes, scores, np.array(held)), _forced(boxes, scores, held), 1e-8, 1e-4) is None
    assert breach(_node(boxes, scores, np.array([2, 3])), _forced(boxes, scores, [2, 3]), 1e-8, 1e-4) is not None
