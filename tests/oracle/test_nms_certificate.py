"""The certificate accepts every correct answer within the noise and refuses every edit beyond it, by its
name."""

from __future__ import annotations

from dataclasses import replace
from itertools import chain, combinations
from time import perf_counter
from typing import Any, Callable, Dict, Iterator, List, Sequence, Tuple

import numpy as np
import numpy.typing as npt
import onnxruntime
import pytest
from detparity.kit.tests.examples import examples
from hypothesis import given, settings
from hypothesis import strategies as st
from onnx import TensorProto, helper

from detparity.core.errors import InputError
from detparity.inputs.box_strategies import predictions
from detparity.oracle import nms
from detparity.oracle.boxes import Floats, corners, iou, pairwise_iou
from detparity.oracle.nms import NmsRule
from detparity.oracle.nms_case import Certificate, Detections, Tolerance
from detparity.oracle.nms_certificate import certify_image, certify_padded, certify_rows

FAST = settings(max_examples=examples(100), derandomize=True, database=None, deadline=None)

# An answer: for each image (n, 6) x1, y1, x2, y2, class, score.
Answer = List[Floats]

THRESHOLD, SCORE = 0.5, 0.25
ORT = nms.end2end_ort_rule(THRESHOLD, SCORE, 100, class_agnostic=False)
RULES: Dict[str, NmsRule] = {
    "end2end-ort": ORT,
    "end2end-ort class-agnostic": replace(ORT, class_agnostic=True),
    "end2end-trt": nms.end2end_trt_rule(THRESHOLD, SCORE, 100),
}
NOISE = Tolerance(box=0.4, score=5e-4)


# Engines, noise and scenes


def answer_of(batch: Floats, rule: NmsRule) -> Answer:
    images = []
    for values in batch:
        found = nms.candidates(values, rule)
        retained = found.take(nms.greedy(found, rule))
        images.append(np.column_stack([retained.boxes, retained.classes, retained.scores]).reshape(-1, 6))
    return images


def certify(answer: Answer, batch: Floats, rule: NmsRule, tolerance: Tolerance, ordered: bool = True) -> Certificate:
    """Through the entry of the rule's variant; slots past num_dets are filled with garbage."""
    if rule.best_class:
        labelled = [np.column_stack([np.full(len(retained), i), retained]) for i, retained in enumerate(answer)]
        rows = np.concatenate([retained.reshape(-1, 7) for retained in labelled])
        return certify_rows(rows, batch, rule, tolerance, ordered=ordered)
    slots = max(rule.cap, max(map(len, answer))) + 2
    padded = np.full((len(answer), slots, 6), np.nan)
    for image, retained in enumerate(answer):
        padded[image, : len(retained)] = retained
    counts = np.array([[len(retained)] for retained in answer], dtype=np.int32)
    return certify_padded(
        counts, padded[..., :4], padded[..., 5], padded[..., 4], batch, rule, tolerance, ordered=ordered
    )


def perturbed(batch: Floats, tolerance: Tolerance, rng: np.random.Generator) -> Floats:
    """The batch moved by no more than the noise: corners by `box`, scores by `score`, often by all of it."""

    def noise(shape: Tuple[int, ...]) -> Floats:
        part = np.where(rng.random(shape) < 0.5, rng.choice([-1.0, 1.0], shape), rng.uniform(-1, 1, shape))
        return np.asarray(part * (1 - 1e-9))

    moved = np.array(batch)
    moved[..., 0:2] += noise(batch[..., 0:2].shape) * tolerance.box / 2
    moved[..., 2:4] += noise(batch[..., 2:4].shape) * tolerance.box
    # |o' c' - o c| <= |o' - o| c' + o |c' - c|, and both factors stay within 0..1.
    moved[..., 4:] = np.clip(moved[..., 4:] + noise(batch[..., 4:].shape) * tolerance.score / 2, 0, 1)
    return moved


def scene(rng: np.random.Generator, images: int = 2, classes: int = 5) -> Floats:
    """Groups far apart: a best box, boxes that it clearly suppresses, the same boxes in another class,
    background.

    All scores are 0.004 apart and 0.05 over the threshold, all IoUs 0.1 from the threshold: no edit is
    neutral.
    """
    per_group = 5
    groups = int(rng.integers(4, 9))
    batch = np.zeros((images, groups * per_group + 6, 5 + classes))
    for image in range(images):
        scores = rng.permutation(np.arange(0.3, 0.95, 0.004))
        for group in range(groups):
            centre = np.array([group % 4, group // 4]) * 300.0 + rng.uniform(0, 60, 2)
            size = rng.uniform(60, 120, 2)
            own = np.sort(scores[group * per_group : (group + 1) * per_group])[::-1]
            label = int(rng.integers(classes))
            other = (label + 1) % classes
            for position, (score, kind) in enumerate(zip(own, (label, other, label, label, other))):
                row = batch[image, group * per_group + position]
                shift = rng.uniform(-0.05, 0.05, 2) * size if position > 1 else 0.0
                row[:4] = [*(centre + shift), *size * rng.uniform(0.95, 1.05)]
                objectness = rng.uniform(0.96, 1.0)
                row[4] = objectness
                row[5:] = rng.uniform(0.0, 0.1, classes)
                row[5 + kind] = score / objectness
        batch[image, -6:, :5] = [50.0, 50.0, 80.0, 80.0, 0.2]
        batch[image, -6:, 5] = rng.uniform(0.1, 0.9, 6)
    return batch


def crowd(rng: np.random.Generator, rows: int = 40, classes: int = 3, side: float = 250.0) -> Floats:
    """One image of boxes thrown together, most of them in conflict."""
    batch = np.zeros((1, rows, 5 + classes))
    batch[..., 0:2] = rng.uniform(0, side, (1, rows, 2))
    batch[..., 2:4] = rng.uniform(50, 160, (1, rows, 2))
    batch[..., 4] = 1.0
    batch[..., 5:] = rng.uniform(0, 0.2, (1, rows, classes))
    batch[0, np.arange(rows), 5 + rng.integers(0, classes, rows)] = rng.uniform(0.15, 1, rows)
    return batch


# Every correct answer is accepted


@FAST
@given(
    batch=predictions(images=(1, 3), boxes=(0, 8), classes=(1, 4), with_nan=True),
    rule=st.builds(
        NmsRule,
        iou_threshold=st.sampled_from([0.5, 0.45, 0.0, 1.0]),
        score_threshold=st.sampled_from([0.25, 0.0, 0.5]),
        cap=st.integers(1, 6),
        best_class=st.booleans(),
        class_agnostic=st.booleans(),
        prefilter=st.sampled_from([None, 3]),
        inclusive=st.booleans(),
    ),
    tolerance=st.builds(Tolerance, box=st.sampled_from([0.0, 0.3, 3.0]), score=st.sampled_from([0.0, 1e-3, 0.05])),
    seed=st.integers(0, 2**32 - 1),
)
def test_every_answer_within_the_noise_is_accepted(
    batch: Floats, rule: NmsRule, tolerance: Tolerance, seed: int
) -> None:
    """Ties, touching and coincident boxes, scores on the threshold, caps: nothing is beyond the noise
    here."""
    engine = perturbed(batch, tolerance, np.random.default_rng(seed))
    assert certify(answer_of(engine, rule), batch, rule, tolerance).breaches == ()


@pytest.mark.parametrize("name", RULES)
def test_crowded_answers_within_the_noise_are_accepted_and_near_ties_counted(name: str) -> None:
    rng = np.random.default_rng(7)
    ties = 0
    for cap in (3, 8, 100) * 8:
        rule, batch = replace(RULES[name], cap=cap), crowd(rng, rows=60)
        certificate = certify(answer_of(perturbed(batch, NOISE, rng), rule), batch, rule, NOISE)
        assert certificate.accepted, certificate.breaches
        ties += sum(near.count for near in certificate.near_ties)
    assert ties > 0


@FAST
@given(
    predictions(images=(1, 2), boxes=(0, 8), classes=(2, 4)),
    st.integers(1, 6),
    st.sampled_from([0, 4096, 100_000]),
)
def test_a_float32_engine_with_a_class_offset_is_accepted(
    nms_operator: onnxruntime.InferenceSession, batch: Floats, cap: int, max_wh: int
) -> None:
    """ONNX Runtime's operator behind a shift in float32, as `end2end-ort` is built; 0 is class-agnostic.

    The coordinates of the strategy span 1300 px to either side, so 4096 keeps the classes apart.
    """
    rule = nms.end2end_ort_rule(0.45, 0.25, cap, class_agnostic=max_wh == 0)
    answer = []
    for values in batch.astype(np.float32):
        boxes = np.concatenate([values[:, :2] - values[:, 2:4] / 2, values[:, :2] + values[:, 2:4] / 2], axis=1)
        classes = values[:, 5:].argmax(axis=1)
        scores = values[:, 4] * values[:, 5:].max(axis=1, initial=0)
        shifted = boxes + classes[:, None].astype(np.float32) * np.float32(max_wh)
        feed = {"boxes": shifted[None], "scores": scores[None, None], "cap": np.array([cap])}
        retained = nms_operator.run(None, feed)[0][:, 2]
        answer.append(np.column_stack([boxes, classes, scores])[retained].astype(np.float64).reshape(-1, 6))
    largest = np.float32(1300 + (batch.shape[2] - 6) * max_wh)
    tolerance = Tolerance(box=1e-4, score=1e-7, iou_slack=float(np.spacing(largest)) / 2)
    assert certify(answer, batch, rule, tolerance).breaches == ()


@pytest.fixture(scope="module")
def nms_operator() -> onnxruntime.InferenceSession:
    inputs = [
        helper.make_tensor_value_info("boxes", TensorProto.FLOAT, [1, None, 4]),
        helper.make_tensor_value_info("scores", TensorProto.FLOAT, [1, 1, None]),
        helper.make_tensor_value_info("cap", TensorProto.INT64, [1]),
    ]
    limits = [helper.make_tensor(name, TensorProto.FLOAT, [1], [v]) for name, v in (("iou", 0.45), ("score", 0.25))]
    node = helper.make_node("NonMaxSuppression", ["boxes", "scores", "cap", "iou", "score"], ["selected"])
    selected = helper.make_tensor_value_info("selected", TensorProto.INT64, [None, 3])
    graph = helper.make_graph([node], "nms", inputs, [selected], initializer=limits)
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 12)], ir_version=7)
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = 1
    return onnxruntime.InferenceSession(model.SerializeToString(), options, providers=["CPUExecutionProvider"])


# Nothing else is accepted


@pytest.mark.parametrize("name", RULES)
def test_of_all_subsets_exactly_the_greedy_result_is_accepted(name: str) -> None:
    rng = np.random.default_rng(11)
    tiny = Tolerance(box=1e-9, score=1e-9)
    for cap in (1, 2, 100) * 2:
        rule, batch = replace(RULES[name], cap=cap), crowd(rng, rows=6, classes=2, side=80.0)
        found = nms.candidates(batch[0], rule)
        everything = np.column_stack([found.boxes, found.classes, found.scores])
        everything = everything[np.argsort(-found.scores)]
        indices = range(len(everything))
        subsets = chain.from_iterable(combinations(indices, size) for size in range(len(everything) + 1))
        accepted = [s for s in subsets if certify([everything[list(s)]], batch, rule, tiny).accepted]
        assert [everything[list(s)].tolist() for s in accepted] == [answer_of(batch, rule)[0].tolist()]


Edit = Callable[[np.random.Generator, Answer, Floats, NmsRule], Answer]


def pick(rng: np.random.Generator, answer: Answer) -> Tuple[int, int]:
    image = int(rng.choice([i for i, rows in enumerate(answer) if len(rows)]))
    return image, int(rng.integers(len(answer[image])))


def with_row(answer: Answer, image: int, row: npt.ArrayLike) -> Answer:
    """The answer with one more row, in its position by score."""
    rows = np.vstack([answer[image], np.asarray(row, dtype=np.float64)])
    return [rows[np.argsort(-rows[:, 5], kind="stable")] if i == image else old for i, old in enumerate(answer)]


def without(answer: Answer, image: int, position: int) -> Answer:
    return [np.delete(rows, position, axis=0) if i == image else rows for i, rows in enumerate(answer)]


def changed(answer: Answer, image: int, position: int, columns: Any, values: npt.ArrayLike) -> Answer:
    row = answer[image][position].copy()
    row[columns] = values
    return with_row(without(answer, image, position), image, row)


def drop(rng: np.random.Generator, answer: Answer, batch: Floats, rule: NmsRule) -> Answer:
    return without(answer, *pick(rng, answer))


def repeat(rng: np.random.Generator, answer: Answer, batch: Floats, rule: NmsRule) -> Answer:
    image, position = pick(rng, answer)
    return with_row(answer, image, answer[image][position])


def add_suppressed(rng: np.random.Generator, answer: Answer, batch: Floats, rule: NmsRule) -> Answer:
    image, _ = pick(rng, answer)
    found = nms.candidates(batch[image], rule)
    left_out = np.setdiff1d(np.arange(len(found)), nms.greedy(found, rule))
    index = rng.choice(left_out)
    return with_row(answer, image, [*found.boxes[index], found.classes[index], found.scores[index]])


def add_invented(rng: np.random.Generator, answer: Answer, batch: Floats, rule: NmsRule) -> Answer:
    return with_row(answer, pick(rng, answer)[0], [-500, -500, -400, -450, 0, 0.6])


def add_background(rng: np.random.Generator, answer: Answer, batch: Floats, rule: NmsRule) -> Answer:
    score = float(nms.class_scores(batch[0])[-1, 0])
    return with_row(answer, 0, [*corners(batch[0, -1, :4]), 0, score])


def move(rng: np.random.Generator, answer: Answer, batch: Floats, rule: NmsRule) -> Answer:
    image, position = pick(rng, answer)
    side = int(rng.integers(4))
    shift = rng.choice([-1, 1]) * 2.1 * NOISE.box
    return changed(answer, image, position, side, answer[image][position][side] + shift)


def relabel(rng: np.random.Generator, answer: Answer, batch: Floats, rule: NmsRule) -> Answer:
    image, position = pick(rng, answer)
    label = (answer[image][position][4] + rng.integers(1, batch.shape[2] - 5)) % (batch.shape[2] - 5)
    return changed(answer, image, position, 4, label)


def rescore(rng: np.random.Generator, answer: Answer, batch: Floats, rule: NmsRule) -> Answer:
    image, position = pick(rng, answer)
    return changed(answer, image, position, 5, answer[image][position][5] + rng.choice([-1, 1]) * 2.1 * NOISE.score)


def swap_image(rng: np.random.Generator, answer: Answer, batch: Floats, rule: NmsRule) -> Answer:
    image, position = pick(rng, answer)
    return with_row(without(answer, image, position), 1 - image, answer[image][position])


def reorder(rng: np.random.Generator, answer: Answer, batch: Floats, rule: NmsRule) -> Answer:
    image = pick(rng, answer)[0]
    position = int(rng.integers(len(answer[image]) - 1))
    rows = answer[image].copy()
    rows[[position, position + 1]] = rows[[position + 1, position]]
    return [rows if i == image else old for i, old in enumerate(answer)]


def break_number(rng: np.random.Generator, answer: Answer, batch: Floats, rule: NmsRule) -> Answer:
    image, position = pick(rng, answer)
    rows = answer[image].copy()
    rows[position, rng.integers(6)] = rng.choice([np.nan, np.inf, -np.inf])
    return [rows if i == image else old for i, old in enumerate(answer)]


def invent_class(rng: np.random.Generator, answer: Answer, batch: Floats, rule: NmsRule) -> Answer:
    return changed(answer, *pick(rng, answer), 4, rng.choice([-1.0, batch.shape[2] - 5.0, 0.5]))


# The edit, the kind that must be among the breaches, and facts that it must show.
EDITS: Dict[str, Tuple[Edit, str, Dict[str, object]]] = {
    "drop": (drop, "missing", {}),
    "duplicate": (repeat, "duplicate", {}),
    "add a suppressed candidate": (add_suppressed, "overlap", {}),
    "add an invented box": (add_invented, "unmatched", {}),
    "add a candidate under the score threshold": (add_background, "below-threshold", {}),
    "move": (move, "unmatched", {"differs": "box"}),
    "relabel": (relabel, "unmatched", {"differs": "class"}),
    "rescore": (rescore, "unmatched", {"differs": "score"}),
    "swap image": (swap_image, "unmatched", {"differs": "image"}),
    "swap image, seen from its own": (swap_image, "missing", {}),
    "reorder": (reorder, "order", {}),
    "not finite": (break_number, "not-finite", {}),
    "no such class": (invent_class, "class-index", {}),
}


@pytest.mark.parametrize("name", RULES)
@pytest.mark.parametrize("edit_name", EDITS)
def test_every_single_edit_beyond_the_noise_is_refused_by_name(edit_name: str, name: str) -> None:
    edit, kind, facts = EDITS[edit_name]
    rng, rule = np.random.default_rng(3), RULES[name]
    for _ in range(6):
        batch = scene(rng)
        answer = answer_of(perturbed(batch, NOISE, rng), rule)
        assert certify(answer, batch, rule, NOISE).accepted
        edited = edit(rng, answer, batch, rule)
        found = [b for b in certify(edited, batch, rule, NOISE).breaches if b.kind == kind]
        assert any(facts.items() <= breach.facts.items() for breach in found), (edit_name, found)


@pytest.mark.parametrize("name", RULES)
def test_edits_of_one_detection_give_one_breach_of_their_kind(name: str) -> None:
    """A dropped detection does not drag in what it suppressed; a changed one is not also missing."""
    rng, rule = np.random.default_rng(5), RULES[name]
    for edit, kind in (
        (drop, "missing"),
        (move, "unmatched"),
        (relabel, "unmatched"),
        (rescore, "unmatched"),
    ):
        for _ in range(6):
            batch = scene(rng)
            edited = edit(rng, answer_of(batch, rule), batch, rule)
            kinds = [breach.kind for breach in certify(edited, batch, rule, NOISE).breaches]
            # A new label may meet another box of that class besides.
            assert [k for k in kinds if k != "overlap"] == [kind]


@pytest.mark.parametrize("name", RULES)
def test_exceeding_the_cap_is_refused(name: str) -> None:
    rng = np.random.default_rng(6)
    for _ in range(10):
        batch = scene(rng, images=1)
        answer = answer_of(batch, RULES[name])
        rule = replace(RULES[name], cap=len(answer[0]) - 1)
        assert certify([answer[0][:-1]], batch, rule, NOISE).accepted
        found = certify(answer, batch, rule, NOISE).breaches
        assert [breach.kind for breach in found] == ["over-cap"]
        assert found[0].facts == {"image": 0, "count": rule.cap + 1, "cap": rule.cap}


@pytest.mark.parametrize("name", RULES)
def test_a_cap_that_does_not_keep_the_best_is_refused(name: str) -> None:
    rng = np.random.default_rng(8)
    for _ in range(10):
        batch = scene(rng, images=1)
        answer = answer_of(batch, RULES[name])[0]
        rule = replace(RULES[name], cap=len(answer) - 1)
        skipped = int(rng.integers(len(answer) - 1))
        found = certify([np.delete(answer, skipped, axis=0)], batch, rule, NOISE).breaches
        assert [breach.kind for breach in found] == ["missing"]


@pytest.mark.parametrize("name", RULES)
@pytest.mark.parametrize("edit_name", ["drop", "add a suppressed candidate"])
def test_edits_in_a_crowd_are_refused_unless_the_noise_could_make_them_right(edit_name: str, name: str) -> None:
    """Boxes thrown together: an edit counts where the reference itself is 0.02 clear of the IoU threshold."""
    edit, kind, _ = EDITS[edit_name]
    rng, rule, noise = np.random.default_rng(9), RULES[name], Tolerance(box=0.05, score=1e-4)
    tried = neutral = 0
    for _ in range(30):
        batch = crowd(rng, rows=70)
        answer = answer_of(perturbed(batch, noise, rng), rule)
        edited = edit(rng, answer, batch, rule)
        tried += 1
        before, after = ({tuple(row) for row in rows} for rows in (answer[0], edited[0]))
        (odd,) = before ^ after
        better = np.array([row for row in before & after if row[5] >= odd[5]]).reshape(-1, 6)
        rivals = better if rule.class_agnostic else better[better[:, 4] == odd[4]]
        overlap = float(iou(odd[:4], rivals[:, :4]).max(initial=0))
        clear = (
            overlap < THRESHOLD - 0.02 and odd[5] > SCORE + 0.01 if kind == "missing" else overlap > THRESHOLD + 0.02
        )
        if not clear:
            neutral += 1
            continue
        assert kind in [breach.kind for breach in certify(edited, batch, rule, noise).breaches]
    assert neutral <= tried // 3


@pytest.mark.parametrize("name", RULES)
def test_a_larger_tolerance_never_refuses_what_a_smaller_one_accepts(name: str) -> None:
    rng = np.random.default_rng(10)
    verdicts = []
    for _ in range(25):
        rule, batch = replace(RULES[name], cap=8), crowd(rng, rows=25)
        share = rng.choice([0.15, 0.4, 0.9, 3.0])
        answer = answer_of(perturbed(batch, Tolerance(box=0.5 * share, score=2e-3 * share), rng), rule)
        accepted = [
            certify(answer, batch, rule, Tolerance(box=0.5 * k, score=2e-3 * k)).accepted for k in (0.2, 0.5, 1, 4)
        ]
        assert accepted == sorted(accepted)
        verdicts.append(tuple(accepted))
    assert len(set(verdicts)) > 1


# Margins


def two_boxes(apart: float, scores: Sequence[float] = (0.9, 0.8)) -> Floats:
    """Two 100 x 100 boxes of one class, IoU (100 - apart) / (100 + apart)."""
    batch = np.zeros((1, 2, 7))
    batch[0, :, :4] = np.array([[100, 100, 100, 100], [100 + apart, 100, 100, 100]])
    batch[0, :, 4] = 1.0
    batch[0, :, 6] = scores
    return batch


def test_iou_near_ties_go_either_way_and_only_near_ties() -> None:
    noise = Tolerance(box=0.2, score=1e-4)
    exact = 100 / 3  # IoU 0.5

    def verdict(apart: float, count: int) -> Certificate:
        batch = two_boxes(apart)
        rows = np.column_stack([corners(batch[0, :, :4]), [1, 1], [0.9, 0.8]])
        return certify([rows[:count]], batch, ORT, noise)

    for apart in (exact - 0.3, exact, exact + 0.3):
        suppressed = verdict(apart, 1)
        assert suppressed.accepted
        nominal = apart < exact - 1e-6
        assert [(n.kind, n.count) for n in suppressed.near_ties] == ([] if nominal else [("suppression", 1)])
    # Reported boxes are known, so keeping both is legal only if the reported boxes may both remain.
    assert verdict(exact + 0.3, 2).accepted and not verdict(exact - 0.3, 2).accepted
    # A shift by the noise moves the IoU by about 0.006 of this pair; ten times the noise is never a near tie.
    assert [b.kind for b in verdict(exact + 2.0, 1).breaches] == ["missing"]
    assert [b.kind for b in verdict(exact - 2.0, 2).breaches] == ["overlap"]


def test_iou_slack_widens_the_comparison_of_reported_boxes() -> None:
    batch = two_boxes(33.0)  # IoU 0.5038
    rows = np.column_stack([corners(batch[0, :, :4]), [1, 1], [0.9, 0.8]])
    assert not certify([rows], batch, ORT, Tolerance(0.0, 0.0)).accepted
    slack = certify([rows], batch, ORT, Tolerance(0.0, 0.0, iou_slack=0.25))
    assert slack.accepted and [(n.kind, n.count) for n in slack.near_ties] == [("overlap", 1)]


def test_a_suppressor_may_score_less_by_the_noise_only() -> None:
    for gap, accepted in ((1.5e-4, True), (1e-2, False)):
        batch = two_boxes(5.0, scores=(0.8, 0.8 + gap))
        rows = np.column_stack([corners(batch[0, :1, :4]), [1], [0.8]])
        certificate = certify([rows], batch, ORT, Tolerance(0.2, 2e-4))
        assert certificate.accepted == accepted
        if accepted:
            assert [(n.kind, n.count) for n in certificate.near_ties] == [("suppression", 1)]
        else:
            assert "scores less" in certificate.breaches[0].sentence


def test_a_score_at_the_threshold_may_be_retained_or_not() -> None:
    batch = two_boxes(200.0, scores=(0.9, SCORE))
    rows = np.column_stack([corners(batch[0, :, :4]), [1, 1], [0.9, SCORE]])
    for rule in (ORT, RULES["end2end-trt"]):
        assert certify([rows], batch, rule, NOISE).accepted
        left_out = certify([rows[:1]], batch, rule, NOISE)
        assert left_out.accepted
        assert [n.kind for n in left_out.near_ties] == (["threshold"] if rule.inclusive else [])


def test_at_the_cap_the_lesser_of_a_near_tie_may_be_retained() -> None:
    rule = replace(ORT, cap=1)
    for gap, accepted in ((3e-4, True), (2e-3, False)):
        batch = two_boxes(200.0, scores=(0.8, 0.8 + gap))
        certificate = certify([np.array([[*corners(batch[0, 0, :4]), 1, 0.8]])], batch, rule, NOISE)
        assert certificate.accepted == accepted
        assert [(n.kind, n.count) for n in certificate.near_ties] == ([("cap", 1)] if accepted else [])


def test_a_row_left_out_may_have_had_another_legal_class() -> None:
    """The row's best class has no rival, but as its second best, within noise, the retained box suppresses it."""
    batch = np.zeros((1, 2, 7))
    batch[0, 0] = [50, 50, 20, 20, 1.0, 0.0, 0.9]
    for second, accepted in ((0.7997, True), (0.79, False)):
        batch[0, 1] = [51, 50, 20, 20, 1.0, 0.8, second]
        certificate = certify([np.array([[40.0, 40, 60, 60, 1, 0.9]])], batch, ORT, NOISE)
        assert certificate.accepted == accepted
        assert [(n.kind, n.count) for n in certificate.near_ties] == ([("suppression", 1)] if accepted else [])


def test_a_class_within_noise_of_the_best_is_legal_once() -> None:
    batch = np.zeros((1, 1, 8))
    batch[0, 0] = [50, 50, 20, 20, 1.0, 0.8, 0.8004, 0.799]
    box = corners(batch[0, 0, :4])

    def verdict(*labels: int) -> Certificate:
        rows = np.array([[*box, label, batch[0, 0, 5 + label]] for label in labels])
        return certify([rows[np.argsort(-rows[:, 5])]], batch, ORT, NOISE)

    assert verdict(1).accepted and verdict(1).near_ties == ()
    assert verdict(0).accepted and [n.kind for n in verdict(0).near_ties] == ["class"]
    assert [(b.kind, b.facts["differs"]) for b in verdict(2).breaches] == [("unmatched", "several")]
    assert [b.kind for b in verdict(0, 1).breaches] == ["duplicate"]
    assert [b.kind for b in certify([np.zeros((0, 6))], batch, ORT, NOISE).breaches] == ["missing"]


def test_coincident_candidates_are_matched_along_augmenting_paths() -> None:
    """The first detection may be either row, the second only the first row: a greedy match would fail."""
    batch = np.zeros((1, 3, 7))
    batch[0, :, :4] = np.array([[50, 50, 20, 20], [50.6, 50, 20, 20], [51.2, 50, 20, 20]])
    batch[0, :, 4] = 1.0
    batch[0, :, 5] = 0.8
    rule = replace(ORT, iou_threshold=1.0)
    reported = np.array([[0.3, 0.8002], [0.9, 0.8001], [-0.2, 0.8]])
    rows = np.column_stack([np.tile(corners([50, 50, 20, 20]), (3, 1)), np.zeros(3), reported[:, 1]])
    rows[:, [0, 2]] += reported[:, :1]
    assert certify([rows], batch, rule, NOISE).accepted
    fourth = certify([rows[[0, 1, 2, 2]]], batch, rule, NOISE)
    assert [breach.kind for breach in fourth.breaches] == ["duplicate"]


def test_tolerances_may_differ_by_row_and_by_image() -> None:
    batch = np.concatenate([two_boxes(200.0)] * 2)
    answer = answer_of(batch, ORT)
    answer[1][1, 0] += 2.0
    for box, accepted in (
        (np.array([0.1, 3.0]), True),
        (np.array([3.0, 0.1]), False),
        (np.array([[0.1, 0.1], [0.1, 3.0]]), True),
        (np.array([[0.1, 3.0], [3.0, 0.1]]), False),
    ):
        assert certify(answer, batch, ORT, Tolerance(box, 1e-4)).accepted == accepted


# Layouts


def test_order_is_judged_only_where_it_is_promised() -> None:
    batch = scene(np.random.default_rng(1))
    for rule in RULES.values():
        answer = [rows[::-1] for rows in answer_of(batch, rule)]
        assert {b.kind for b in certify(answer, batch, rule, NOISE).breaches} == {"order"}
        assert certify(answer, batch, rule, NOISE, ordered=False).accepted


def test_near_ties_in_any_order_but_no_slow_climb() -> None:
    batch = two_boxes(200.0, (0.8, 0.8003))
    rows = np.column_stack([corners(batch[0, :, :4]), [1, 1], [0.8, 0.8003]])
    near = certify([rows], batch, ORT, NOISE)
    assert near.accepted and [(n.kind, n.count) for n in near.near_ties] == [("order", 1)]

    climbing = scene(np.random.default_rng(2), images=1)
    answer = answer_of(climbing, ORT)[0][::-1]
    wide = Tolerance(0.4, float(np.diff(answer[:, 5]).max()) / 2)  # each step alone would be a near tie
    assert "order" in [breach.kind for breach in certify([answer], climbing, ORT, wide).breaches]


def test_image_indices_are_integers_in_range_and_ascending() -> None:
    batch = scene(np.random.default_rng(4))
    rows = nms.end2end_ort(batch, ORT)
    assert certify_rows(rows, batch, ORT, NOISE).accepted
    for index in (-1.0, 2.0, 0.5, np.nan):
        bad = np.vstack([rows, [index, 0, 0, 9, 9, 0, 0.1]])
        assert [b.kind for b in certify_rows(bad, batch, ORT, NOISE).breaches] == ["image-index"]
    descending = rows[np.argsort(-rows[:, 0], kind="stable")]
    found = certify_rows(descending, batch, ORT, NOISE).breaches
    assert [b.kind for b in found] == ["order"] and "images do not ascend" in found[0].sentence
    assert certify_rows(descending, batch, ORT, NOISE, ordered=False).accepted


def test_num_dets_counts_slots() -> None:
    batch, rule = scene(np.random.default_rng(4), images=1), RULES["end2end-trt"]
    (rows,) = answer_of(batch, rule)
    outputs = rows[None, :, :4], rows[None, :, 5], rows[None, :, 4]
    assert certify_padded([[len(rows)]], *outputs, batch, rule, NOISE).accepted
    for count in (-1, len(rows) + 1):
        kinds = [b.kind for b in certify_padded([[count]], *outputs, batch, rule, NOISE).breaches]
        assert "num-dets" in kinds
    kinds = [b.kind for b in certify_padded([[len(rows) - 1]], *outputs, batch, rule, NOISE).breaches]
    assert kinds == ["missing"]


def test_the_candidate_limit_excuses_what_cannot_enter_and_refuses_what_did() -> None:
    """With a limit of three, three copies of one box shut out a free-standing box, unless noise may let it
    in."""
    rule = replace(RULES["end2end-trt"], prefilter=3)
    batch = np.zeros((1, 4, 7))
    batch[0, :, :4] = [[50, 50, 20, 20]] * 3 + [[150, 50, 20, 20]]
    batch[0, :, 4] = 1.0
    batch[0, :, 5] = [0.9, 0.8, 0.7, 0.6]
    both = np.array([[40.0, 40, 60, 60, 0, 0.9], [140, 40, 160, 60, 0, 0.6]])
    assert certify([both[:1]], batch, rule, NOISE).accepted
    refused = certify([both], batch, rule, NOISE).breaches
    assert [b.kind for b in refused] == ["over-cap"] and "3 best" in refused[0].sentence
    for third in (0.6003, 0.5997):  # either may be the third best
        batch[0, 2, 5] = third
        for answer in (both, both[:1]):
            assert certify([answer], batch, rule, NOISE).accepted


def test_rows_that_are_not_finite_in_the_reference_take_no_part() -> None:
    batch = two_boxes(200.0)
    batch[0, 1, 0] = np.nan
    rows = answer_of(batch, ORT)[0]
    assert len(rows) == 1 and certify([rows], batch, ORT, NOISE).accepted
    retained = np.vstack([rows, [np.nan, 50, np.nan, 150, 1, 0.8]])
    assert [b.kind for b in certify([retained], batch, ORT, NOISE).breaches] == ["not-finite"]


def test_empty_answers_and_empty_batches() -> None:
    for rule in RULES.values():
        nothing = np.zeros((2, 5, 8))
        assert certify([np.zeros((0, 6))] * 2, nothing, rule, NOISE).accepted
        assert certify([np.zeros((0, 6))], np.zeros((1, 0, 8)), rule, NOISE).accepted
        found = certify([np.array([[0.0, 0, 9, 9, 0, 0.9]])], np.zeros((1, 0, 8)), rule, NOISE).breaches
        assert [b.kind for b in found] == ["unmatched"]
    assert certify_rows(np.zeros((0, 7)), np.zeros((0, 5, 8)), ORT, NOISE).accepted


# Sentences


def only(certificate: Certificate) -> str:
    (breach,) = certificate.breaches
    return breach.sentence


def test_sentences_name_box_suppressor_iou_and_threshold() -> None:
    batch, noise = two_boxes(20.0), Tolerance(0.01, 1e-4)
    first = "detection 0 (box [50 50 150 150], class 1, score 0.9)"
    rows = np.column_stack([corners(batch[0, :, :4]), [1, 1], [0.9, 0.8]])
    assert only(certify([rows], batch, ORT, noise)) == (
        f"Image 0: detection 1 (box [70 50 170 150], class 1, score 0.8) overlaps {first} with IoU 0.666667 "
        "(at least 0.666664 within noise), over the threshold 0.5."
    )
    far = two_boxes(60.0)
    rows = np.column_stack([corners(far[0, :, :4]), [1, 1], [0.9, 0.8]])
    assert only(certify([rows[:1]], far, ORT, noise)) == (
        "Image 0: candidate row 1 (box [110 50 210 150], class 1, score 0.8) is left out, but the nearest "
        f"retained, {first}, has IoU 0.25 (at most 0.250141 within noise), not enough for the threshold 0.5."
    )
    assert only(certify([rows[:0]], far[:, :1], ORT, noise)) == (
        "Image 0: candidate row 0 (box [50 50 150 150], class 1, score 0.9) is left out, but no box of its "
        "class is retained that could suppress it."
    )


def test_sentences_say_what_differs() -> None:
    batch = np.concatenate([two_boxes(60.0), two_boxes(70.0, (0.7, 0.6))])
    answer = answer_of(batch, ORT)
    shown = "(box [110 50 210 150], class 1, score 0.8)"
    lenient = replace(ORT, iou_threshold=1.0)
    assert only(certify([answer[0][[0, 1, 1]], answer[1]], batch, lenient, NOISE)) == (
        f"Image 0: detection 2 {shown} repeats candidate row 1, already reported by detection 1 {shown}."
    )

    def after(columns: Any, values: npt.ArrayLike) -> str:
        sentence = only(certify(changed(answer, 0, 1, columns, values), batch, ORT, NOISE))
        assert " is no candidate: the nearest, row 1, " in sentence
        return sentence[sentence.index("row 1, ") + 7 :]

    assert after(0, 105.0) == "has its box 5 px away (0.4 allowed)."
    assert after(5, 0.79) == "scores 0.8, 0.01 off (0.0005 allowed)."
    assert after(4, 0) == "is of class 1."
    swapped = certify([answer[0][:1], np.vstack([answer[0][1], answer[1]])], batch, ORT, NOISE).breaches
    (moved,) = (breach for breach in swapped if breach.kind == "unmatched")
    assert moved.sentence == f"Image 1: detection 1 {shown} is no candidate: it belongs to image 0, row 1."
    assert (moved.facts["owner_image"], moved.facts["row"]) == (0, 1)


# Size, and input that cannot be used


def test_a_full_size_image_with_many_classes_takes_about_a_second() -> None:
    rng = np.random.default_rng(0)
    batch = np.empty((1, 25200, 85))
    batch[..., :2] = rng.uniform(0, 640, (1, 25200, 2))
    batch[..., 2:4] = rng.uniform(10, 200, (1, 25200, 2))
    batch[..., 4] = rng.beta(0.3, 5, (1, 25200))
    batch[..., 5:] = rng.beta(0.5, 3, (1, 25200, 80))
    rule = nms.end2end_trt_rule(0.45, 0.05, 100)
    answer = answer_of(batch, rule)
    started = perf_counter()
    assert certify(answer, batch, rule, Tolerance(0.05, 1e-4)).accepted
    assert perf_counter() - started < 5  # measured 0.1 s; the bound only catches a change of order


def test_an_artifact_without_suppression_is_refused_in_bounded_time() -> None:
    rng = np.random.default_rng(0)
    batch = crowd(rng, rows=6000)
    found = nms.candidates(batch[0], ORT)
    rows = np.column_stack([found.boxes, found.classes, found.scores])[np.argsort(-found.scores)]
    started = perf_counter()
    kinds = [breach.kind for breach in certify([rows], batch, ORT, NOISE).breaches]
    assert perf_counter() - started < 10
    assert {"over-cap", "overlap"} <= set(kinds) and len(kinds) <= 2000


def shapes_that_do_not_fit() -> Iterator[Tuple[str, Callable[[], object]]]:
    batch = two_boxes(60.0)
    yield r"shape \(n, 7\)", lambda: certify_rows(np.zeros((3, 6)), batch, ORT, NOISE)
    yield r"\(batch, rows, 5 \+ nc\)", lambda: certify_rows(np.zeros((0, 7)), batch[0], ORT, NOISE)
    yield (
        "box tolerances of shape",
        lambda: certify_rows(np.zeros((0, 7)), batch, ORT, Tolerance(np.ones(3), 0.1)),
    )
    yield (
        r"must have shapes \(1, 1\)",
        lambda: certify_padded([1], np.zeros((1, 2, 4)), np.zeros((1, 2)), np.zeros((1, 2)), batch, ORT, NOISE),
    )
    yield (
        "do not belong together",
        lambda: certify_image(
            Detections(np.zeros((2, 4)), np.zeros(1), np.zeros(2), np.arange(2)), batch[0], ORT, NOISE
        ),
    )
    yield "the score tolerance must be finite", lambda: Tolerance(0.1, float("nan"))
    yield "the box tolerance must be finite", lambda: Tolerance(np.array([0.1, -0.1]), 0.1)


@pytest.mark.parametrize(("sentence", "call"), list(shapes_that_do_not_fit()), ids=lambda value: str(value)[:24])
def test_unusable_input_is_refused(sentence: str, call: Callable[[], object]) -> None:
    with pytest.raises(InputError, match=sentence):
        call()


def test_one_image_alone_is_judged_the_same() -> None:
    batch = scene(np.random.default_rng(12), images=1)
    (rows,) = answer_of(batch, ORT)
    given_rows = Detections(rows[:, :4], rows[:, 5], rows[:, 4], np.arange(len(rows)) + 40)
    assert certify_image(given_rows, batch[0], ORT, NOISE).accepted
    dropped = Detections(rows[1:, :4], rows[1:, 5], rows[1:, 4], np.arange(len(rows) - 1))
    assert certify_image(dropped, batch[0], ORT, NOISE) == certify([rows[1:]], batch, ORT, NOISE)


def test_the_scenes_are_as_clear_as_they_claim() -> None:
    rng = np.random.default_rng(13)
    for _ in range(20):
        batch = scene(rng, images=1)
        found = nms.candidates(batch[0], ORT)
        overlaps = pairwise_iou(found.boxes, found.boxes)[np.triu_indices(len(found), 1)]
        assert (np.abs(overlaps - THRESHOLD) > 0.1).all() and (overlaps > THRESHOLD).any()
        assert np.diff(np.sort(found.scores)).min() > 0.0039 and found.scores.min() > SCORE + 0.04
