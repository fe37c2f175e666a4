"""The reference suppression against other definitions, and against operators written by
others."""

from __future__ import annotations

from fractions import Fraction
from typing import Any, Callable, Dict, List, Set, Tuple

import numpy as np
import onnx
import onnxruntime
import pytest
from detparity.kit.tests.examples import examples
from hypothesis import Phase, example, find, given, settings
from hypothesis import strategies as st
from onnx import TensorProto, helper
from onnx.reference import ReferenceEvaluator

from detparity.core.errors import InputError
from detparity.inputs.box_strategies import predictions
from detparity.oracle import nms
from detparity.oracle.boxes import Floats, corners, iou, iou_bounds, ordered, pairwise_iou
from detparity.oracle.nms import Candidates, NmsRule

FAST = settings(max_examples=examples(100), derandomize=True, database=None, deadline=None)
RULES = st.builds(
    NmsRule,
    iou_threshold=st.sampled_from([0.5, 0.45, 0.65, 0.0, 1.0]),
    score_threshold=st.sampled_from([0.25, 0.0, 0.5]),
    cap=st.integers(0, 6),
    best_class=st.booleans(),
    class_agnostic=st.booleans(),
    prefilter=st.sampled_from([None, 3]),
    inclusive=st.booleans(),
)
Selection = List[Tuple[int, int]]


# Boxes


def exact_iou(a: Floats, b: Floats) -> float:
    """IoU in rational arithmetic, rounded once; as the definition reads."""
    ax1, ay1, ax2, ay2 = (Fraction(float(value)) for value in a)
    bx1, by1, bx2, by2 = (Fraction(float(value)) for value in b)
    width = min(max(ax1, ax2), max(bx1, bx2)) - max(min(ax1, ax2), min(bx1, bx2))
    height = min(max(ay1, ay2), max(by1, by2)) - max(min(ay1, ay2), min(by1, by2))
    if width <= 0 or height <= 0:
        return 0.0
    areas = abs(ax2 - ax1) * abs(ay2 - ay1) + abs(bx2 - bx1) * abs(by2 - by1)
    return float(width * height / (areas - width * height))


coordinates = st.integers(-40, 40).map(lambda quarters: quarters / 4)
any_box = st.tuples(coordinates, coordinates, coordinates, coordinates).map(np.array)


@FAST
@given(any_box, any_box)
@example(np.array([0.0, 0, 4, 4]), np.array([4.0, 4, 0, 0]))  # inverted
@example(np.array([0.0, 0, 0, 4]), np.array([0.0, 0, 0, 4]))  # no area
def test_iou_is_that_of_the_rectangles_spanned(a: Floats, b: Floats) -> None:
    assert iou(a, b) == exact_iou(a, b) == iou(b, a)
    assert pairwise_iou([a, b], [b])[:, 0].tolist() == [exact_iou(a, b), exact_iou(b, b)]


def test_corners_and_order() -> None:
    assert corners([10.0, 20.0, 4.0, 6.0]).tolist() == [8.0, 17.0, 12.0, 23.0]
    assert ordered([12.0, 17.0, 8.0, 23.0]).tolist() == [8.0, 17.0, 12.0, 23.0]
    assert corners(np.zeros((0, 4))).shape == (0, 4)


@FAST
@given(st.integers(0, 2**32 - 1), st.sampled_from([0.0, 0.01, 0.5, 6.0]), st.sampled_from([0.0, 0.02, 3.0]))
def test_bounds_hold_for_every_movement(seed: int, move_a: float, move_b: float) -> None:
    rng = np.random.default_rng(seed)
    a, b = rng.uniform(-30, 30, (2, 200, 4))
    b[::5] = a[::5]
    a[::7, 2] = a[::7, 0]
    lowest, highest = iou_bounds(a, b, move_a, move_b)
    for _ in range(10):  # ends of the movement and what lies between
        moved = iou(a + rng.choice([-1, 1, 0.3], a.shape) * move_a, b + rng.choice([-1, 1, 0.3], b.shape) * move_b)
        assert (lowest <= moved).all() and (moved <= highest).all()


def test_bounds_are_tight_enough_to_decide() -> None:
    rng = np.random.default_rng(0)
    a = corners(np.c_[rng.uniform(0, 60, (5000, 2)), rng.uniform(20, 90, (5000, 2))])
    b = corners(np.c_[rng.uniform(0, 60, (5000, 2)), rng.uniform(20, 90, (5000, 2))])
    sides = np.concatenate([a[:, 2:] - a[:, :2], b[:, 2:] - b[:, :2]], axis=1).min(axis=1)
    for move in (0.001, 0.03, 0.2):
        lowest, highest = iou_bounds(a, b, move, move)
        assert (highest - lowest <= 1.05 * 32 * move / sides + 4e-6).all()  # the bound that iou_bounds documents
        reached_low, reached_high = np.full(len(a), 1.0), np.zeros(len(a))
        for _ in range(60):
            moved = iou(a + rng.choice([-move, move], a.shape), b + rng.choice([-move, move], b.shape))
            reached_low, reached_high = np.minimum(reached_low, moved), np.maximum(reached_high, moved)
        real = (reached_high - reached_low).sum()
        assert (highest - lowest).sum() < 2.5 * real
    lowest, highest = iou_bounds(a, b, 0.0, 0.0)
    assert np.allclose(lowest, highest, rtol=4e-6, atol=0)


def test_bounds_of_a_box_that_may_vanish_allow_everything_it_touches() -> None:
    lowest, highest = iou_bounds([0, 0, 0, 5], [[0, 0, 0, 5], [9, 0, 9, 5]], 0.1, 0.1)
    assert lowest.tolist() == [0.0, 0.0]
    assert highest.tolist() == [1.0, 0.0]


# Greedy suppression, by another definition


def retained_by_fixpoint(
    boxes: Floats, scores: Floats, classes: Floats, rule: NmsRule, overlap: Callable[[Floats, Floats], float]
) -> List[int]:
    """The greedy result as the only set in which exactly those stay whom no better member suppresses.

    "Better" is a total order (score, then index). Iterating from all members settles one rank a round.
    """
    order = sorted(range(len(scores)), key=lambda i: (-scores[i], i))[: rule.prefilter]
    better: Dict[int, Set[int]] = {i: set() for i in order}
    for rank, i in enumerate(order):
        for j in order[:rank]:
            if rule.class_agnostic or classes[i] == classes[j]:
                value = overlap(boxes[i], boxes[j])
                if value > rule.iou_threshold or (rule.inclusive and value == rule.iou_threshold):
                    better[i].add(j)
    members = set(order)
    while True:
        settled = {i for i in order if not better[i] & members}
        if settled == members:
            return [i for i in order if i in members][: rule.cap]
        members = settled


def expected_selection(image: Floats, rule: NmsRule) -> Selection:
    """(row, class) pairs retained in one image of predictions, with plain loops."""
    found: List[Tuple[int, int, float]] = []
    for row, values in enumerate(image.tolist()):
        if any(value != value for value in values):
            continue
        labels = range(len(values) - 5)
        if rule.best_class:
            labels = range((top := values[5:].index(max(values[5:]))), top + 1)
        for label in labels:
            score = values[4] * values[5 + label] if len(values) > 6 else values[4]
            if score > rule.score_threshold or (rule.inclusive and score == rule.score_threshold):
                found.append((row, label, score))
    retained = retained_by_fixpoint(
        np.array([corners(image[row, :4]) for row, _, _ in found]).reshape(-1, 4),
        np.array([score for _, _, score in found]),
        np.array([label for _, label, _ in found]),
        rule,
        exact_iou,
    )
    return [found[i][:2] for i in retained]


def selection(image: Floats, rule: NmsRule) -> Selection:
    found = nms.candidates(image, rule)
    retained = found.take(nms.greedy(found, rule))
    return list(zip(retained.rows.tolist(), retained.classes.tolist()))


@FAST
@given(predictions(with_nan=True), RULES)
def test_greedy_is_the_fixpoint_of_its_definition(batch: Floats, rule: NmsRule) -> None:
    for image in batch:
        assert selection(image, rule) == expected_selection(image, rule)


@FAST
@given(predictions(images=(1, 1), boxes=(7, 10), classes=(1, 3)), RULES)
def test_greedy_keeps_the_best_up_to_the_cap(batch: Floats, rule: NmsRule) -> None:
    found = nms.candidates(batch[0], rule)
    uncapped = nms.greedy(found, NmsRule(**{**vars(rule), "cap": 100}))
    assert nms.greedy(found, rule).tolist() == uncapped[: rule.cap].tolist()
    assert (np.diff(found.scores[uncapped]) <= 0).all()


def test_thresholds_are_strict_unless_inclusive() -> None:
    twins = np.array([[2.0, 2, 4, 4, 0.5, 1], [2, 3, 4, 2, 0.25, 1]])  # IoU 0.5, score on the threshold
    assert selection(twins, NmsRule(0.5, 0.25, 9, best_class=True)) == [(0, 0)]
    assert selection(twins, NmsRule(0.5, 0.2, 9, best_class=True)) == [(0, 0), (1, 0)]
    assert selection(twins, NmsRule(0.6, 0.25, 9, best_class=True, inclusive=True)) == [(0, 0), (1, 0)]
    assert selection(twins, NmsRule(0.5, 0.25, 9, best_class=True, inclusive=True)) == [(0, 0)]


def test_a_single_class_scores_by_objectness_alone() -> None:
    row = np.array([[2.0, 2, 4, 4, 0.75, 0.5]])
    for best_class in (True, False):
        assert nms.candidates(row, NmsRule(0.5, 0.6, 9, best_class)).scores.tolist() == [0.75]


def test_ties_go_to_the_first_class_and_the_first_row() -> None:
    rows = np.array([[2.0, 2, 4, 4, 1, 0.2, 0.5, 0.5], [2, 2, 4, 4, 1, 0.2, 0.5, 0.5]])
    assert selection(rows, NmsRule(0.5, 0.1, 9, best_class=True)) == [(0, 1)]


# The layouts of the two exported tails


@FAST
@given(predictions(), RULES)
def test_end2end_ort_rows_are_the_retained_candidates_image_by_image(batch: Floats, rule: NmsRule) -> None:
    rows = nms.end2end_ort(batch, rule)
    expected = []
    for image, values in enumerate(batch):
        for row, label in expected_selection(values, rule):
            score = values[row, 4] * (values[row, 5 + label] if values.shape[1] > 6 else 1)
            expected.append([image, *corners(values[row, :4]), label, score])
    assert rows.shape == (len(expected), 7)
    assert rows.tolist() == expected


def test_end2end_ort_of_nothing_has_seven_columns() -> None:
    rule = nms.end2end_ort_rule(0.5, 0.25, 10, class_agnostic=False)
    assert nms.end2end_ort(np.zeros((2, 0, 7)), rule).shape == (0, 7)
    assert nms.end2end_ort(np.zeros((0, 4, 7)), rule).shape == (0, 7)


@FAST
@given(
    predictions(classes=(2, 4)),
    st.sampled_from([0, 1]),
    st.sampled_from([0, 1]),
    st.integers(-1, 3),
    st.booleans(),
)
def test_efficient_nms_keeps_pairs_pads_with_zeros_and_takes_either_coding(
    batch: Floats, box_coding: int, score_activation: int, background_class: int, class_agnostic: bool
) -> None:
    scores = batch[..., 4:5] * batch[..., 5:]
    given_scores = scores
    if score_activation:
        with np.errstate(divide="ignore"):
            given_scores = np.log(scores) - np.log1p(-scores)
        scores = 1 / (1 + np.exp(-given_scores))
    num_dets, boxes, retained_scores, classes = nms.efficient_nms(
        batch[..., :4] if box_coding else corners(batch[..., :4]),
        given_scores,
        score_threshold=0.3,
        iou_threshold=0.45,
        max_output_boxes=5,
        background_class=background_class,
        score_activation=score_activation,
        box_coding=box_coding,
        class_agnostic=class_agnostic,
    )
    assert num_dets.dtype == classes.dtype == np.dtype(np.int32)
    assert (num_dets.shape, boxes.shape, classes.shape) == (
        (len(batch), 1),
        (len(batch), 5, 4),
        (len(batch), 5),
    )
    rule = NmsRule(0.45, 0.3, 5, best_class=False, class_agnostic=class_agnostic, inclusive=True)
    for image, values in enumerate(batch):
        pairs = [
            (row, label)
            for row in range(scores.shape[1])
            for label in range(scores.shape[2])
            if scores[image, row, label] >= 0.3 and label != background_class
        ]
        found = corners(values[[row for row, _ in pairs], :4])
        values_of = np.array([scores[image][pair] for pair in pairs])
        retained = retained_by_fixpoint(found, values_of, np.array([label for _, label in pairs]), rule, exact_iou)
        count = len(retained)
        assert num_dets[image, 0] == count
        assert boxes[image, :count].tolist() == found[retained].tolist()
        assert retained_scores[image, :count] == pytest.approx(values_of[retained], rel=1e-12)
        assert classes[image, :count].tolist() == [pairs[i][1] for i in retained]
        assert not (boxes[image, count:].any() or retained_scores[image, count:].any() or classes[image, count:].any())


def test_efficient_nms_lets_only_the_4096_best_in() -> None:
    """4096 copies of one box fill the limit, so a free-standing box of a lower score never enters."""
    boxes = np.tile([10.0, 10, 4, 4], (4097, 1))
    boxes[-1] = [90, 90, 4, 4]
    scores = np.full((4097, 1), 0.9)
    scores[-1] = 0.8
    attributes: Dict[str, Any] = {
        "score_threshold": 0.5,
        "iou_threshold": 0.5,
        "max_output_boxes": 10,
        "background_class": -1,
        "score_activation": 0,
        "box_coding": 1,
    }
    assert nms.efficient_nms(boxes[None], scores[None], **attributes)[0].tolist() == [[1]]
    assert nms.efficient_nms(boxes[None, 1:], scores[None, 1:], **attributes)[0].tolist() == [[2]]


# Operators written by others

LIMITS = (("cap", TensorProto.INT64), ("iou", TensorProto.FLOAT), ("score", TensorProto.FLOAT))


def nms_model(given_limits: Tuple[str, ...] = ("cap", "iou", "score"), **attributes: Any) -> onnx.ModelProto:
    """A model of one NonMaxSuppression whose limits are inputs; those not given are left out of the node."""
    inputs = [
        helper.make_tensor_value_info("boxes", TensorProto.FLOAT, [None, None, 4]),
        helper.make_tensor_value_info("scores", TensorProto.FLOAT, [None, None, None]),
    ]
    inputs += [helper.make_tensor_value_info(name, kind, [1]) for name, kind in LIMITS if name in given_limits]
    names = ["boxes", "scores"] + [name if name in given_limits else "" for name, _ in LIMITS]
    while not names[-1]:
        names.pop()
    node = helper.make_node("NonMaxSuppression", names, ["selected"], **attributes)
    selected = helper.make_tensor_value_info("selected", TensorProto.INT64, [None, 3])
    graph = helper.make_graph([node], "nms", inputs, [selected])
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 12)], ir_version=7)
    onnx.checker.check_model(model)
    return model


def feed_of(boxes: Floats, scores: Floats, cap: int, iou_threshold: float, score: float) -> Dict[str, Any]:
    return {
        "boxes": boxes.astype(np.float32),
        "scores": scores.astype(np.float32),
        "cap": np.array([cap]),
        "iou": np.array([iou_threshold], dtype=np.float32),
        "score": np.array([score], dtype=np.float32),
    }


@pytest.fixture(scope="module", params=[0, 1], ids=["corners", "centre-size"])
def operator(request: pytest.FixtureRequest) -> Tuple[int, onnxruntime.InferenceSession, Any]:
    model = nms_model(center_point_box=request.param)
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = 1
    session = onnxruntime.InferenceSession(model.SerializeToString(), options, providers=["CPUExecutionProvider"])
    return request.param, session, ReferenceEvaluator(model)


@FAST
@given(
    batch=predictions(images=(1, 2), boxes=(0, 10), classes=(1, 3)),
    # Dyadic thresholds are met exactly in float32 as in float64; 0.45 and 0.65 as float32 round off any met
    # ratio.
    iou_threshold=st.sampled_from([0.5, 0.25, 0.75, 0.0, 1.0, 0.45, 0.65]),
    cap=st.integers(0, 5),
    score=st.sampled_from([0.25, 0.5, 0.0]),
    turned=st.booleans(),
)
def test_onnx_nms_agrees_with_onnx_runtime_and_the_reference_evaluator(
    operator: Tuple[int, onnxruntime.InferenceSession, Any],
    batch: Floats,
    iou_threshold: float,
    cap: int,
    score: float,
    turned: bool,
) -> None:
    """Same boxes in the same order. Both operators are fed all five inputs, the limits of rank 1.

    The reference evaluator of onnx 1.21.0 differs from the operator's text only outside this: it fails with a
    TypeError where the cap or the IoU threshold is missing, and with an IndexError for limits of rank 0,
    which the text calls scalars.
    """
    center, session, evaluator = operator
    boxes = batch[..., :4] if center else corners(batch[..., :4])
    if turned and not center:
        boxes = boxes[..., [2, 1, 0, 3]]
    scores = np.moveaxis(batch[..., 4:5] * batch[..., 5:], 2, 1)
    expected = nms.onnx_nms(boxes, scores, cap, iou_threshold, score, center).tolist()
    feed = feed_of(boxes, scores, cap, iou_threshold, score)
    assert session.run(None, feed)[0].tolist() == expected
    if batch.shape[1]:
        assert evaluator.run(None, feed)[0].tolist() == expected


@pytest.mark.parametrize("missing", [("cap",), ("iou",), ("score",), ("iou", "score"), ("cap", "iou", "score")])
def test_onnx_nms_has_the_defaults_of_missing_inputs(missing: Tuple[str, ...]) -> None:
    limits = tuple(name for name, _ in LIMITS if name not in missing)
    session = onnxruntime.InferenceSession(nms_model(limits).SerializeToString(), providers=["CPUExecutionProvider"])
    boxes = np.array([[[0.0, 0, 4, 4], [0, 0, 4, 4], [3, 3, 7, 7], [9, 9, 10, 10]]])
    scores = np.array([[[0.9, 0.8, 0.0, -1.0]]])
    feed = feed_of(boxes, scores, 9, 0.5, 0.25)
    keywords: Dict[str, Tuple[str, Any]] = {
        "cap": ("max_output_boxes_per_class", 9),
        "iou": ("iou_threshold", 0.5),
        "score": ("score_threshold", 0.25),
    }
    arguments: Dict[str, Any] = {keywords[name][0]: keywords[name][1] for name in limits}
    expected = nms.onnx_nms(boxes, scores, **arguments).tolist()
    answer = session.run(None, {name: feed[name] for name in ["boxes", "scores", *limits]})[0]
    assert answer.tolist() == expected
    assert bool(expected) == ("cap" in limits)


def test_greedy_agrees_with_torchvision() -> None:
    """torchvision leaves the order of equal scores open, so ties are parted first."""
    ops = pytest.importorskip("torchvision.ops", reason="torchvision is optional: one more NMS by others")
    torch = pytest.importorskip("torch")

    @FAST
    @given(predictions(images=(1, 1), boxes=(1, 12), classes=(1, 1)), st.sampled_from([0.5, 0.25, 0.45]))
    def agrees(batch: Floats, iou_threshold: float) -> None:
        boxes = corners(batch[0, :, :4])
        scores = batch[0, :, 4] - np.arange(len(boxes)) / 4096
        found = Candidates(np.arange(len(boxes)), boxes, scores, np.zeros(len(boxes), dtype=np.int64))
        retained = nms.greedy(found, NmsRule(iou_threshold, -1.0, 99, best_class=True))
        assert ops.nms(torch.tensor(boxes), torch.tensor(scores), iou_threshold).tolist() == retained.tolist()

    agrees()


# Input that cannot be used

ANY = NmsRule(0.5, 0.25, 9, best_class=True)
PLUGIN: Dict[str, Any] = {
    "score_threshold": 0.5,
    "iou_threshold": 0.5,
    "max_output_boxes": 10,
    "background_class": -1,
    "score_activation": 0,
}


@pytest.mark.parametrize(
    ("call", "sentence"),
    [
        (lambda: nms.candidates(np.zeros((3, 5)), ANY), "at least one class"),
        (lambda: nms.end2end_ort(np.zeros((3, 7)), ANY), r"\(batch, rows, 5 \+ nc\)"),
        (lambda: nms.onnx_nms(np.zeros((1, 3, 5)), np.zeros((1, 1, 3))), r"boxes must have shape"),
        (lambda: nms.onnx_nms(np.zeros((1, 3, 4)), np.zeros((2, 1, 3))), "scores of 1 images"),
        (lambda: nms.onnx_nms(np.zeros((1, 3, 4)), np.zeros((1, 1, 2))), "3 boxes do not match 2"),
        (
            lambda: nms.efficient_nms(np.zeros((1, 3, 4)), np.zeros((1, 2, 1)), box_coding=1, **PLUGIN),
            "3 boxes do not match 2",
        ),
        (
            lambda: nms.efficient_nms(np.zeros((1, 3, 4)), np.zeros((1, 3, 1)), box_coding=2, **PLUGIN),
            "box_coding must be 0",
        ),
    ],
)
def test_unusable_shapes_are_refused(call: Callable[[], object], sentence: str) -> None:
    with pytest.raises(InputError, match=sentence):
        call()


# What the strategy promises to reach


def hot(image: Floats) -> Floats:
    """Rows with a score, as corners and class and score columns."""
    found = nms.candidates(image, NmsRule(1.0, 0.0, 99, best_class=True))
    return np.column_stack([found.boxes, found.classes, found.scores])


def any_pair(batch: Floats, relation: Callable[[Floats, Floats], Any]) -> bool:
    return any(relation(a, b) for image in batch for i, a in enumerate(hot(image)) for b in hot(image)[:i])


def area(box: Floats) -> float:
    return float((box[2] - box[0]) * (box[3] - box[1]))


REACHED: Dict[str, Tuple[Dict[str, Any], Callable[[Floats], bool]]] = {
    "tied scores": ({}, lambda p: any_pair(p, lambda a, b: a[5] == b[5] and area(a) > 0)),
    "identical boxes": ({}, lambda p: any_pair(p, lambda a, b: (a[:4] == b[:4]).all() and area(a) > 0)),
    "nested boxes": (
        {},
        lambda p: any_pair(p, lambda a, b: (a[:2] > b[:2]).all() and (a[2:4] < b[2:4]).all()),
    ),
    "touching boxes": ({}, lambda p: any_pair(p, lambda a, b: a[0] == b[2] and a[1] == b[1] and area(a) > 0)),
    "overlap near a threshold": ({}, lambda p: any_pair(p, lambda a, b: 0.4 < iou(a[:4], b[:4]) < 0.6)),
    "no area": ({}, lambda p: any(area(row) == 0 for image in p for row in hot(image))),
    "negative coordinates": ({}, lambda p: bool((p[..., :2] < 0).any())),
    "far outside": ({}, lambda p: bool((np.abs(p[..., :2]) > 640).any())),
    "neighbouring classes on one box, up to the last": (
        {"classes": (80, 80)},
        lambda p: any_pair(p, lambda a, b: (a[:4] == b[:4]).all() and {a[4], b[4]} == {78, 79}),
    ),
    "more candidates than a cap": ({"boxes": (5, 6)}, lambda p: len(hot(p[0])) > 4),
    "a score on the threshold": (
        {"score_threshold": 0.35},
        lambda p: any((hot(image)[:, 5] == np.float64(np.float32(0.35))).any() for image in p),
    ),
    "no candidate": ({}, lambda p: p.shape[1] > 0 and not any(len(hot(image)) for image in p)),
    "no row": ({}, lambda p: p.shape[1] == 0),
    "one class": ({}, lambda p: p.shape[2] == 6 and len(hot(p[0])) > 0),
    "a tie of classes": ({}, lambda p: bool((p[0, :, 5:] > 0).sum(axis=1).max(initial=0) > 1)),
    "images with different counts": ({}, lambda p: len({len(hot(image)) for image in p}) == 3),
    "a row of NaN": ({"with_nan": True}, lambda p: bool(np.isnan(p).all(axis=2).any())),
    "a single NaN": ({"with_nan": True}, lambda p: bool((np.isnan(p).sum(axis=2) == 1).any())),
}


@pytest.mark.parametrize("situation", REACHED)
def test_strategy_reaches(situation: str) -> None:
    """Within a bounded search, so a situation that is merely rare in one version of hypothesis is still
    found."""
    keywords, holds = REACHED[situation]
    search = settings(FAST, max_examples=2000, phases=[Phase.generate])
    assert holds(find(predictions(**keywords), holds, settings=search))


@FAST
@given(predictions(images=(2, 3), boxes=(1, 4), classes=(2, 5), side=32))
def test_strategy_keeps_its_ranges_and_is_exact_in_float32(batch: Floats) -> None:
    assert 2 <= batch.shape[0] <= 3 and 1 <= batch.shape[1] <= 4 and 7 <= batch.shape[2] <= 10
    assert np.isfinite(batch).all() and (batch[..., 2:] >= 0).all() and (batch[..., 4:] <= 1).all()
    assert (batch.astype(np.float32) == batch).all()
    assert (corners(batch[..., :4]).astype(np.float32) == corners(batch[..., :4])).all()
