"""Average precision against its definition in fractions, its laws, and its bounds against movements of everything within the noise."""

from __future__ import annotations

from fractions import Fraction
from typing import Dict, List, Sequence, Tuple

import numpy as np
import pytest
from detparity.kit.tests.examples import examples
from hypothesis import given, settings
from hypothesis import strategies as st

from detparity.core.errors import InputError
from detparity.oracle.average_precision import Detected, Objects, bounds, precision
from detparity.oracle.boxes import iou
from detparity.oracle.nms import NmsRule, candidates, greedy
from detparity.oracle.nms_alternatives import answers
from detparity.oracle.nms_case import Tolerance

FAST = settings(max_examples=examples(60), derandomize=True, database=None, deadline=None)
SEEDS = st.integers(0, 2**32 - 1)
CLASSES = 2
IMAGES = 3


def boxes_of(rng: np.random.Generator, count: int) -> np.ndarray:
    """Corners on a coarse lattice, so that overlaps tie and lie on thresholds."""
    low = rng.integers(0, 6, (count, 2))
    return np.concatenate([low, low + rng.integers(2, 7, (count, 2))], 1).astype(np.float64)


def objects(rng: np.random.Generator, most: int = 4) -> Objects:
    count = int(rng.integers(1, most + 1))
    return Objects(boxes_of(rng, count), rng.integers(0, CLASSES, count))


def detected(rng: np.random.Generator, truth: Objects, most: int = 6) -> Detected:
    """Some on the objects, some beside them, scores in tenths."""
    count = int(rng.integers(0, most + 1))
    boxes, classes = boxes_of(rng, count), rng.integers(0, CLASSES, count)
    for k in range(count):
        if rng.random() < 0.6:
            which = int(rng.integers(len(truth.classes)))
            boxes[k] = truth.boxes[which] + (rng.random() < 0.5) * np.array([0.0, 0.0, 1.0, 0.0])
            classes[k] = truth.classes[which]
    return Detected(boxes, rng.integers(1, 10, count) / 10, classes)


def problem(seed: int) -> Tuple[List[Detected], List[Objects]]:
    rng = np.random.default_rng(seed)
    truths = [objects(rng) for _ in range(IMAGES)]
    return [detected(rng, truth) for truth in truths], truths


def by_definition(found: Sequence[Detected], truths: Sequence[Objects], label: int, threshold: float) -> Fraction:
    """AP by its definition: a list of all detections by falling score, each judged in that order, precision at every recall."""
    hits: List[Tuple[float, bool]] = []
    total = 0
    for one, truth in zip(found, truths):
        there = [box for box, kind in zip(truth.boxes, truth.classes) if kind == label]
        total += len(there)
        own = [k for k in range(len(one.scores)) if one.classes[k] == label]
        overlap = {k: [float(iou(one.boxes[k], box)) for box in there] for k in own}
        taken: Dict[int, bool] = {}
        for k in sorted(own, key=lambda k: (-one.scores[k], -max(overlap[k], default=0.0))):
            free = [(value, -j) for j, value in enumerate(overlap[k]) if j not in taken and value >= threshold]
            if free:
                taken[-max(free)[1]] = True
            hits.append((float(one.scores[k]), bool(free)))
    hits.sort(key=lambda hit: (-hit[0], hit[1]))
    area = Fraction(0)
    for recalled in range(1, sum(hit for _, hit in hits) + 1):
        reached = [
            Fraction(sum(hit for _, hit in hits[:k]), k)
            for k in range(1, len(hits) + 1)
            if sum(hit for _, hit in hits[:k]) >= recalled
        ]
        area += max(reached)
    return area / total


@FAST
@given(SEEDS)
def test_precision_is_what_its_definition_says(seed):
    found, truths = problem(seed)

    table = precision(found, truths, CLASSES, (0.5, 0.75)).table

    for label in range(CLASSES):
        if not any((truth.classes == label).any() for truth in truths):
            assert np.isnan(table[label]).all()
            continue
        for column, threshold in enumerate((0.5, 0.75)):
            assert table[label, column] == pytest.approx(
                float(by_definition(found, truths, label, threshold)), abs=1e-12
            )


def test_a_case_worked_by_hand():
    """Three objects; by falling score: a hit, a miss, a hit. Precision 1 up to a third, 2/3 up to two thirds, then 0."""
    truth = Objects(np.array([[0, 0, 4, 4], [10, 0, 14, 4], [20, 0, 24, 4]], np.float64), np.zeros(3, np.int64))
    found = Detected(truth.boxes[[0, 0, 1]], np.array([0.9, 0.8, 0.7]), np.zeros(3, np.int64))

    result = precision([found], [truth], 1)

    assert result.map50 == pytest.approx((1 + 2 / 3) / 3)
    assert result.map == pytest.approx(result.map50)  # all overlaps are 1


@FAST
@given(SEEDS)
def test_perfect_detections_have_all_of_it_and_none_have_nothing(seed):
    _, truths = problem(seed)
    perfect = [Detected(truth.boxes, np.ones(len(truth.classes)), truth.classes) for truth in truths]
    nothing = [Detected(np.zeros((0, 4)), np.zeros(0), np.zeros(0, np.int64)) for _ in truths]

    assert (precision(perfect, truths, CLASSES).map50, precision(perfect, truths, CLASSES).map) == (1.0, 1.0)
    assert (precision(nothing, truths, CLASSES).map50, precision(nothing, truths, CLASSES).map) == (0.0, 0.0)


@FAST
@given(SEEDS)
def test_another_true_positive_never_lowers_it_and_another_false_one_never_raises_it(seed):
    rng = np.random.default_rng([seed, 1])
    found, truths = problem(seed)
    before = precision(found, truths, CLASSES).table
    image, score = int(rng.integers(IMAGES)), np.array([rng.random()])
    lone = Objects(truths[image].boxes + 100, truths[image].classes)  # nothing overlaps these
    truths[image] = Objects(
        np.concatenate([truths[image].boxes, lone.boxes[:1]]), np.append(truths[image].classes, lone.classes[0])
    )
    missed = precision(found, truths, CLASSES).table
    label = int(lone.classes[0])

    def added(box: np.ndarray) -> np.ndarray:
        one = found[image]
        more = Detected(
            np.concatenate([one.boxes, box]), np.concatenate([one.scores, score]), np.append(one.classes, label)
        )
        return precision([*found[:image], more, *found[image + 1 :]], truths, CLASSES).table

    assert (missed[label] <= before[label]).all()
    assert (added(lone.boxes[:1])[label] > missed[label]).all()
    assert (added(lone.boxes[:1] + 200)[label] <= missed[label]).all()


@FAST
@given(SEEDS)
def test_the_order_of_rows_and_images_has_no_say(seed):
    rng = np.random.default_rng([seed, 2])
    found, truths = problem(seed)
    mixed = []
    for one in found:
        order = rng.permutation(len(one.scores))
        mixed.append(Detected(one.boxes[order], one.scores[order], one.classes[order]))
    images = rng.permutation(IMAGES)

    again = precision([mixed[k] for k in images], [truths[k] for k in images], CLASSES)

    np.testing.assert_array_equal(again.table, precision(found, truths, CLASSES).table)


# Bounds


@FAST
@given(SEEDS, st.sampled_from([0.0, 0.004, 0.06]), st.sampled_from([0.0, 0.01, 0.3]))
def test_bounds_hold_whatever_moves_within_the_noise(seed, score_noise, move):
    rng = np.random.default_rng([seed, 3])
    found, truths = problem(seed)
    given_noise = [[Detected(d.boxes, d.scores, d.classes, np.full(len(d.scores), move))] for d in found]

    low, high = bounds(given_noise, truths, CLASSES, score_noise)

    for attempt in range(8):
        share = 1.0 if attempt % 2 else rng.random()
        moved = [
            Detected(
                d.boxes + share * move * rng.uniform(-1, 1, d.boxes.shape),
                d.scores + share * score_noise * rng.choice([-1.0, 1.0], len(d.scores)),
                d.classes,
            )
            for d in found
        ]
        moved = moved if attempt else found
        table = precision(moved, truths, CLASSES).table
        there = ~np.isnan(table)
        assert (low.table[there] <= table[there] + 1e-12).all()
        assert (table[there] <= high.table[there] + 1e-12).all()


@FAST
@given(SEEDS)
def test_bounds_meet_where_nothing_is_near(seed):
    """Scores apart by more than the noise and overlaps off their thresholds leave one value."""
    found, truths = problem(seed)
    rng = np.random.default_rng([seed, 4])
    apart = iter(rng.permutation(200) / 200 + 0.001)
    truths = [Objects(t.boxes + rng.uniform(-0.1, 0.1, t.boxes.shape), t.classes) for t in truths]
    sure = [Detected(d.boxes, np.array([next(apart) for _ in d.scores]), d.classes) for d in found]

    low, high = bounds([[one] for one in sure], truths, CLASSES, 0.002, (0.5123, 0.7777))

    plain = precision(sure, truths, CLASSES, (0.5123, 0.7777))
    np.testing.assert_allclose(low.table, plain.table, atol=1e-12)
    np.testing.assert_allclose(high.table, plain.table, atol=1e-12)


def test_bounds_of_two_near_ties_are_those_of_either_order():
    """A true and a false positive a hair apart, and a box whose overlap is its threshold."""
    truth = Objects(np.array([[0.0, 0, 10, 10]]), np.zeros(1, np.int64))
    boxes = np.array([[0.0, 0, 10, 10], [50, 50, 60, 60]])
    tie = Detected(boxes, np.array([0.5, 0.5001]), np.zeros(2, np.int64), np.zeros(2))
    half = Detected(np.array([[0.0, 0, 10, 5]]), np.ones(1), np.zeros(1, np.int64), np.array([0.01]))

    assert precision([tie], [truth], 1).map50 == 0.5
    assert [b.map50 for b in bounds([[tie]], [truth], 1, 1e-4)] == [0.5, 1.0]
    assert [b.map50 for b in bounds([[tie]], [truth], 1, 1e-5)] == [0.5, 0.5]
    assert [b.map50 for b in bounds([[half]], [truth], 1, 0.0)] == [0.0, 1.0]


def test_bounds_of_more_ways_than_are_walked_stay_bounds():
    """Forty detections in a tie for forty objects, all of them overlapping."""
    rng = np.random.default_rng(0)
    truth = Objects(np.array([0.0, 0, 20, 20]) + rng.uniform(0, 1, (40, 4)), np.zeros(40, np.int64))
    found = Detected(
        truth.boxes + rng.uniform(-1, 1, (40, 4)), np.full(40, 0.5), np.zeros(40, np.int64), np.full(40, 0.5)
    )

    low, high = bounds([[found]], [truth], 1, 0.01, (0.9,))

    assert low.map50 == 0.0
    assert precision([found], [truth], 1, (0.9,)).map50 <= high.map50 <= 1.0


# Answers


def predictions_of(rng: np.random.Generator, rows: int) -> np.ndarray:
    """Centre and size on a lattice, scores in tenths, two classes that often tie."""
    boxes = boxes_of(rng, rows)
    centre = np.concatenate([(boxes[:, :2] + boxes[:, 2:]) / 2, boxes[:, 2:] - boxes[:, :2]], 1)
    return np.concatenate([centre, rng.integers(3, 10, (rows, 1)) / 10, rng.integers(3, 10, (rows, CLASSES)) / 10], 1)


def moved_by(rng: np.random.Generator, values: np.ndarray, move: float, noise: float) -> np.ndarray:
    """Each corner moves by `move` at most, each score by `noise` at most."""
    other = values.copy()
    other[:, :4] += rng.choice([-1, 1], (len(values), 4)) * np.array([0.5, 0.5, 1.0, 1.0]) * move * rng.random()
    other[:, 4:] += rng.choice([-1, 1], values[:, 4:].shape) * 0.49 * noise
    return other


def rows_retained(values: np.ndarray, rule: NmsRule) -> Tuple[np.ndarray, np.ndarray]:
    found = candidates(values, rule)
    retained = found.take(greedy(found, rule))
    return retained.rows, retained.classes


RULES = st.builds(
    NmsRule,
    iou_threshold=st.sampled_from([0.5, 0.45]),
    score_threshold=st.sampled_from([0.25, 0.36, 0.0]),
    cap=st.sampled_from([100, 3]),
    best_class=st.booleans(),
    class_agnostic=st.booleans(),
    inclusive=st.booleans(),
)


@FAST
@given(SEEDS, RULES, st.sampled_from([(0.0, 0.0), (0.02, 0.0), (0.0, 0.015), (0.2, 0.02)]))
def test_what_is_retained_within_the_noise_is_among_the_answers(seed, rule, noise):
    rng = np.random.default_rng(seed)
    values = predictions_of(rng, int(rng.integers(1, 8)))
    move, score = noise

    found = answers(values, rule, Tolerance(move, score), limit=5000)

    assert found is not None
    corners = {}
    for row in range(len(values)):
        cx, cy, w, h = values[row, :4]
        corners.setdefault((cx - w / 2, cy - h / 2, cx + w / 2, cy + h / 2), []).append(row)
    sets = {frozenset(zip(map(tuple, one.boxes.tolist()), one.classes.tolist())) for one in found}
    for attempt in range(6):
        other = moved_by(rng, values, move, score) if attempt else values
        rows, classes = rows_retained(other, rule)
        boxes = [next(box for box, who in corners.items() if row in who) for row in rows]
        assert frozenset(zip(boxes, classes.tolist())) in sets


@FAST
@given(SEEDS, RULES)
def test_without_near_ties_there_is_one_answer(seed, rule):
    rng = np.random.default_rng(seed)
    values = predictions_of(rng, 30)
    values[:, :4] += rng.uniform(-0.4, 0.4, (30, 4))
    values[:, 4:] = rng.uniform(0.1, 0.9, (30, 1 + CLASSES))

    found = answers(values, rule, Tolerance(1e-9, 1e-9))

    assert found is not None and len(found) == 1
    rows, classes = rows_retained(values, rule)
    np.testing.assert_array_equal(found[0].classes, classes)
    np.testing.assert_allclose(found[0].boxes[:, :2], values[rows, :2] - values[rows, 2:4] / 2)


def test_too_many_answers_are_none():
    values = np.tile(np.array([50.0, 50, 10, 10, 0.5, 0.9]), (300, 1))
    rule = NmsRule(0.5, 0.45, 300, best_class=True)
    apart = values.copy()
    apart[:, 0] = np.arange(300) * 20

    assert answers(apart, rule, Tolerance(0.0, 0.1)) is None  # any of them may lie under the threshold
    assert len(answers(apart, rule, Tolerance(0.0, 0.01)) or ()) == 1
    assert answers(apart, NmsRule(0.5, 0.45, 100, best_class=True), Tolerance(0.0, 0.01)) is None  # any 100 of them
    assert answers(values, NmsRule(0.5, 0.45, 100, best_class=False, prefilter=10), Tolerance(0.0, 0.0)) is None


@FAST
@given(SEEDS)
def test_bounds_over_answers_hold_for_moved_predictions(seed):
    """From predictions to mAP: what the check of a file relies on."""
    rng = np.random.default_rng([seed, 5])
    rule, move, noise = NmsRule(0.5, 0.25, 50, best_class=True), 0.05, 0.01
    truths = [objects(rng) for _ in range(IMAGES)]
    values = [predictions_of(rng, 7) for _ in truths]
    sets = [answers(one, rule, Tolerance(move, noise), limit=5000) for one in values]
    assert all(one is not None for one in sets)

    low, high = bounds(sets, truths, CLASSES, noise)

    for _ in range(4):
        found = []
        for one in values:
            other = candidates(moved_by(rng, one, move, noise), rule)
            retained = other.take(greedy(other, rule))
            found.append(Detected(retained.boxes, retained.scores, retained.classes))
        table = precision(found, truths, CLASSES).table
        there = ~np.isnan(table)
        assert (low.table[there] <= table[there] + 1e-12).all() and (table[there] <= high.table[there] + 1e-12).all()


@pytest.mark.parametrize(
    "call, words",
    [
        (lambda: Objects(np.zeros((2, 4)), np.zeros(3, np.int64)), "do not belong together"),
        (lambda: Detected(np.zeros((2, 4)), np.zeros(2), np.zeros(1, np.int64)), "do not belong together"),
        (lambda: Detected(np.zeros((1, 4)), np.array([np.nan]), np.zeros(1, np.int64)), "not a number"),
        (lambda: precision([], [Objects(np.zeros((0, 4)), np.zeros(0, np.int64))], 1), "of 0 images"),
        (
            lambda: precision(
                [Detected(np.zeros((0, 4)), np.zeros(0), np.zeros(0, np.int64))],
                [Objects(np.zeros((0, 4)), np.zeros(0, np.int64))],
                1,
            ),
            "no image has a true object",
        ),
    ],
)
def test_what_cannot_be_scored_is_refused(call, words):
    with pytest.raises(InputError, match=words):
        call()
