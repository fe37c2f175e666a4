"""Authored suppression cases (golden/nms) against exact arithmetic, our reference, the certificate, and every engine they fit.

The exact oracle below shares no code with the library, not even the reading of the file: fractions of the decimal numbers in
it. An engine implements a rule; a case is in its domain where that rule has the same answers, by the exact oracle.
"""

from __future__ import annotations

import json
from dataclasses import dataclass, replace
from fractions import Fraction
from pathlib import Path
from typing import Any, Callable, Dict, FrozenSet, Iterator, List, Mapping, Optional, Sequence, Set, Tuple

import numpy as np
import pytest
from detparity.kit.exporters import nms_tails
from detparity.kit.exporters.options import ExportOptions, export_graph, finish
from detparity.kit.tests.defects import edits
from onnx import TensorProto, helper, numpy_helper

from detparity.artifacts import onnx_nms
from detparity.checks.context import Context
from detparity.checks.nms import tail_findings
from detparity.checks.nms_tail import feed, find_cut
from detparity.checks.opening import make_context, open_file
from detparity.checks.session import Options, Session
from detparity.core import resources
from detparity.core.clock import Clock
from detparity.core.contract import NmsPromise
from detparity.core.vocabulary import Arrays, Load, Variant, parse_variant
from detparity.engines import efficient_nms, onnxruntime
from detparity.engines.reference_runs import make_oracle
from detparity.inputs.explore import explore
from detparity.models.choice import BUNDLED_SIZE, ModelChoice
from detparity.models.yolov7 import yaml_config
from detparity.models.yolov7.network import FixedPredictions
from detparity.models.yolov7.seeded import conditioned
from detparity.oracle import nms
from detparity.oracle.authored_cases import (
    Answer,
    Case,
    corners_of,
    detections_of,
    predictions_of,
    read_case,
    rule_of,
    score_of,
)
from detparity.oracle.nms_case import Certificate, Tolerance
from detparity.oracle.nms_certificate import certify_padded, certify_rows
from detparity.tools.export_cache import attempt

FOLDER = resources.root() / "golden" / "nms"
NAMES = sorted(path.stem for path in FOLDER.glob("*.json"))
# The head of yolov7-tiny behind five layers: tails depend on the head alone.
SMALL: Dict[str, Any] = {
    "nc": 80,
    "depth_multiple": 1.0,
    "width_multiple": 1.0,
    "anchors": [[10, 13, 16, 30, 33, 23], [30, 61, 62, 45, 59, 119], [116, 90, 156, 198, 373, 326]],
    "backbone": [[-1, 1, "Conv", [16, 3, 2]] for _ in range(5)],
    "head": [[[2, 3, 4], 1, "IDetect", ["nc", "anchors"]]],
}
EXACT = Tolerance(box=0.0, score=0.0)  # the numbers of a case are the same in float32 and in float64


@pytest.fixture
def case(name: str) -> Case:
    return read_case(FOLDER / f"{name}.json")


# Exact arithmetic

Box = Sequence[Fraction]


def exact_iou(a: Box, b: Box) -> Fraction:
    """Boxes with x1 <= x2 and y1 <= y2; nothing over nothing is 0."""
    inside, outside = exact_areas(a, b)
    return inside / outside if inside else Fraction(0)


def exact_areas(a: Box, b: Box) -> Tuple[Fraction, Fraction]:
    """Intersection and union."""
    width, height = min(a[2], b[2]) - max(a[0], b[0]), min(a[3], b[3]) - max(a[1], b[1])
    inside = max(width, Fraction(0)) * max(height, Fraction(0))
    return inside, sum(((x2 - x1) * (y2 - y1) for x1, y1, x2, y2 in (a, b)), -inside)


@dataclass(frozen=True)
class Candidate:
    row: int
    label: int
    score: Fraction
    box: Box


@dataclass(frozen=True)
class Exact:
    """A case in fractions: what the file says, or the same numbers under another rule (`under`)."""

    boxes: Tuple[Box, ...]
    scores: Tuple[Tuple[Fraction, ...], ...]  # of row and class, the objectness included
    ranks: Tuple[Tuple[Fraction, ...], ...]  # what chooses a row's best class
    images: Tuple[int, ...]
    iou: Fraction
    score: Fraction
    cap: int
    labels: str
    classes: str
    thresholds: str
    max_wh: Fraction
    overlap: Callable[[Box, Box], Fraction] = exact_iou

    def under(self, **rule: Any) -> Exact:
        return replace(self, **rule)

    def answers(self) -> FrozenSet[Answer]:
        """Every answer that some order of tied scores and some choice among tied classes leads to."""
        found: Set[Answer] = {()}
        for image in range(max(self.images) + 1):
            rows = [row for row, of in enumerate(self.images) if of == image]
            images = {answer for chosen in self.labelled(rows) for answer in self.survivors(chosen, ())}
            found = {before + after for before in found for after in images}
        return frozenset(found)

    def labelled(self, rows: Sequence[int]) -> List[List[Candidate]]:
        """The candidates of one image: one list for each choice among tied best classes."""
        lists: List[List[Candidate]] = [[]]
        for row in rows:
            labels = range(len(self.scores[row]))
            if self.labels == "every":
                options = [list(labels)]
            else:
                options = [[label] for label in labels if self.ranks[row][label] == max(self.ranks[row])]
            lists = [[*before, *self.passing(row, option)] for before in lists for option in options]
        return lists

    def passing(self, row: int, labels: Sequence[int]) -> List[Candidate]:
        found = []
        for label in labels:
            score = self.scores[row][label]
            if score > self.score or (self.thresholds == "inclusive" and score == self.score):
                shift = label * self.max_wh if self.classes == "offset" else Fraction(0)
                found.append(Candidate(row, label, score, tuple(side + shift for side in self.boxes[row])))
        return found

    def survivors(self, left: Sequence[Candidate], retained: Answer) -> Iterator[Answer]:
        if not left or len(retained) == self.cap:
            yield retained
            return
        top = max(candidate.score for candidate in left)
        for best in left:
            if best.score == top:
                rest = [other for other in left if other is not best and not self.suppresses(best, other)]
                yield from self.survivors(rest, (*retained, (best.row, best.label)))

    def suppresses(self, best: Candidate, other: Candidate) -> bool:
        if self.classes == "separated" and best.label != other.label:
            return False
        found = self.overlap(best.box, other.box)
        return found > self.iou or (self.thresholds == "inclusive" and found == self.iou)


def exact(name: str) -> Exact:
    raw = json.loads((FOLDER / f"{name}.json").read_text(), parse_float=Fraction, parse_int=Fraction)
    numbers, count = raw["parameters"], len(raw["boxes"])
    boxes = []
    for a, b, c, d in raw["boxes"]:
        if raw["box_coding"] == "centre-size":
            a, b, c, d = a - c / 2, b - d / 2, a + c / 2, b + d / 2
        boxes.append((min(a, c), min(b, d), max(a, c), max(b, d)))
    table = raw["scores"]
    if isinstance(table[0], Fraction):
        table = [[score] for score in table]
    elif isinstance(table[0], dict):
        table = [[row.get(str(label), Fraction(0)) for label in range(int(raw["class_count"]))] for row in table]
    objectness = raw.get("objectness", [Fraction(1)] * count)
    scores = [[share * part for part in row] for share, row in zip(objectness, table)]
    if len(table[0]) == 1 and "objectness" in raw:
        scores = [[share] for share in objectness]
    return Exact(
        tuple(boxes),
        tuple(map(tuple, scores)),
        tuple(map(tuple, table)),
        tuple(int(image) for image in raw.get("images", [0] * count)),
        numbers["iou_threshold"],
        numbers["score_threshold"],
        int(numbers["cap"]),
        numbers["labels"],
        numbers["classes"],
        numbers["thresholds"],
        numbers.get("max_wh", Fraction(0)),
    )


# Each case has teeth: the mistakes it is there for give another answer

Mistake = Callable[[Exact], FrozenSet[Answer]]


def under(**rule: Any) -> Mistake:
    return lambda numbers: numbers.under(**rule).answers()


def threshold(name: str, by: Fraction) -> Mistake:
    return lambda numbers: numbers.under(**{name: getattr(numbers, name) + by}).answers()


def boxes_as(see: Callable[[Box], Box]) -> Mistake:
    return lambda numbers: numbers.under(boxes=tuple(map(see, numbers.boxes))).answers()


def first_alone(numbers: Exact) -> FrozenSet[Answer]:
    """One list of detections for the only right one."""
    return frozenset(sorted(numbers.answers())[:1])


def read_as_corners(box: Box) -> Box:
    x1, y1, x2, y2 = box
    a, b, c, d = (x1 + x2) / 2, (y1 + y2) / 2, x2 - x1, y2 - y1
    return min(a, c), min(b, d), max(a, c), max(b, d)


def in_inclusive_pixels(box: Box) -> Box:
    return box[0], box[1], box[2] + 1, box[3] + 1


def clipped_at_zero(box: Box) -> Box:
    return tuple(max(side, Fraction(0)) for side in box)


def over_the_smaller(a: Box, b: Box) -> Fraction:
    return exact_areas(a, b)[0] / min((x2 - x1) * (y2 - y1) for x1, y1, x2, y2 in (a, b))


def nothing_over_nothing_is_one(a: Box, b: Box) -> Fraction:
    inside, outside = exact_areas(a, b)
    return inside / outside if outside else Fraction(1)


def by_products_of_coordinates(a: Box, b: Box) -> Fraction:
    """Areas as x2 y2 - x1 y2 - x2 y1 + x1 y1 in float32."""

    def area(box: Box) -> np.float32:
        x1, y1, x2, y2 = (np.float32(side) for side in box)
        return x2 * y2 - x1 * y2 - x2 * y1 + x1 * y1

    inside = area((max(a[0], b[0]), max(a[1], b[1]), min(a[2], b[2]), min(a[3], b[3])))
    outside = area(a) + area(b) - inside
    return Fraction(float(inside / outside)) if outside > 0 else Fraction(0)


def candidates_of(numbers: Exact) -> List[Candidate]:
    (found,) = numbers.labelled(range(len(numbers.boxes)))
    return sorted(found, key=lambda candidate: -candidate.score)


def all_suppress(numbers: Exact) -> FrozenSet[Answer]:
    """Candidates that are suppressed suppress as well."""
    found = candidates_of(numbers)
    alone = [c for k, c in enumerate(found) if not any(numbers.suppresses(better, c) for better in found[:k])]
    return frozenset([tuple((c.row, c.label) for c in alone)])


def capped_before(numbers: Exact) -> FrozenSet[Answer]:
    """The cap chooses candidates."""
    return frozenset(numbers.survivors(candidates_of(numbers)[: numbers.cap], ()))


def capped_by_class(numbers: Exact) -> FrozenSet[Answer]:
    found = set()
    for answer in numbers.under(cap=99).answers():
        ranks = [[label for _, label in answer[:k]].count(label) for k, (_, label) in enumerate(answer)]
        found.add(tuple(pair for pair, rank in zip(answer, ranks) if rank < numbers.cap))
    return frozenset(found)


def in_one_image(numbers: Exact) -> FrozenSet[Answer]:
    return numbers.under(images=(0,) * len(numbers.images)).answers()


def by_row(numbers: Exact) -> FrozenSet[Answer]:
    return frozenset(tuple(sorted(answer)) for answer in numbers.answers())


def by_class(numbers: Exact) -> FrozenSet[Answer]:
    return frozenset(tuple(sorted(answer, key=lambda pair: pair[1])) for answer in numbers.answers())


def by_class_score(numbers: Exact) -> FrozenSet[Answer]:
    return numbers.under(scores=numbers.ranks).answers()


def by_objectness(numbers: Exact) -> FrozenSet[Answer]:
    parts = [
        [score / rank if rank else Fraction(0) for score, rank in zip(*rows)]
        for rows in zip(numbers.scores, numbers.ranks)
    ]
    return numbers.under(scores=tuple(map(tuple, parts))).answers()


def by_product(numbers: Exact) -> FrozenSet[Answer]:
    """With one class, where the objectness alone is right."""
    return numbers.under(
        scores=tuple((share * part,) for (share,), (part,) in zip(numbers.scores, numbers.ranks))
    ).answers()


def in_half_precision(numbers: Exact) -> FrozenSet[Answer]:
    """Boxes of each class moved in float16; then classes need not be looked at again."""

    def moved(box: Box, label: int) -> Box:
        return tuple(Fraction(float(np.float16(float(side + label * numbers.max_wh)))) for side in box)

    labels = [ranks.index(max(ranks)) for ranks in numbers.ranks]
    boxes = tuple(moved(box, label) for box, label in zip(numbers.boxes, labels))
    return numbers.under(boxes=boxes, classes="agnostic").answers()


def in_six_decimals(numbers: Exact) -> FrozenSet[Answer]:
    return numbers.under(scores=tuple(tuple(round(score, 6) for score in row) for row in numbers.scores)).answers()


NOTHING, EVERYTHING = under(iou=Fraction(1), thresholds="strict"), under(iou=Fraction(-1))
THOUSANDTH = Fraction(1, 1000)
MISTAKES: Dict[str, Sequence[Mistake]] = {
    "best_label": [under(labels="every")],
    "cap": [capped_before, under(cap=99)],
    "cap_over_classes": [capped_by_class],
    "cap_per_image": [in_one_image, under(cap=99)],
    "chain": [all_suppress, boxes_as(read_as_corners)],
    "classes_agnostic": [under(classes="separated")],
    "classes_offset": [under(classes="agnostic"), under(max_wh=Fraction(224)), NOTHING],
    "classes_separated": [under(classes="agnostic"), NOTHING],
    "identical_tied": [first_alone, NOTHING],
    "iou_at_decimal_threshold": [under(thresholds="inclusive"), under(iou=Fraction(float(np.float32(0.45))))],
    "iou_at_threshold": [under(thresholds="inclusive")],
    "iou_beside_threshold": [threshold("iou", THOUSANDTH), threshold("iou", -THOUSANDTH)],
    "large_coordinates": [under(overlap=by_products_of_coordinates)],
    "last_of_eighty": [in_half_precision, under(max_wh=Fraction(4)), under(classes="agnostic")],
    "minus_zero": [under(thresholds="inclusive")],
    "near_tie": [in_six_decimals],
    "nested": [under(overlap=over_the_smaller)],
    "no_candidate": [under(score=Fraction(0))],
    "offset_trap": [under(classes="separated"), under(max_wh=Fraction(4096))],
    "one_class": [by_product],
    "order": [by_row, by_class],
    "outside_image": [boxes_as(clipped_at_zero)],
    "plugin_agnostic": [under(classes="separated"), NOTHING],
    "plugin_at_thresholds": [under(thresholds="strict")],
    "score_at_threshold": [under(thresholds="inclusive")],
    "score_beside_threshold": [threshold("score", 2 * THOUSANDTH), threshold("score", -2 * THOUSANDTH)],
    "score_is_product": [by_class_score, by_objectness],
    "several_labels": [under(labels="best"), under(classes="agnostic")],
    "swapped_corners": [NOTHING],
    "tied_chain": [first_alone, all_suppress],
    "tied_labels": [first_alone, under(labels="every")],
    "touching": [boxes_as(in_inclusive_pixels), EVERYTHING],
    "zero_area": [under(overlap=nothing_over_nothing_is_one), EVERYTHING],
}


@pytest.mark.parametrize("name", NAMES)
def test_mistakes_give_another_answer(name: str) -> None:
    assert name in MISTAKES, f"name a mistake that the case {name} is there to find"

    right = exact(name).answers()
    for mistake in MISTAKES[name]:
        assert mistake(exact(name)) != right


# Our own reference and certificate


def shown(answers: Sequence[Answer]) -> str:
    return " or ".join(str([list(pair) for pair in answer]) for answer in answers) or "nothing"


def must_be_right(case: Case, rows: np.ndarray, who: str, box: float = 0.0, score: float = 0.0) -> None:
    """Fail unless the rows (n, 7) are one of the case's answers, in order, boxes and scores within what is allowed."""
    allowed = np.array([0, box, box, box, box, 0, score])
    for answer in case.answers:
        expected = detections_of(case, answer)
        if rows.shape == expected.shape and (np.abs(rows - expected) <= allowed).all():
            return
    pytest.fail(
        f"{who} answers the case {case.name} with\n{rows}\nwhere the file says {shown(case.answers)} (row, class)\n"
        + "\n".join(case.working + case.citation),
        pytrace=False,
    )


def reference_rows(case: Case) -> np.ndarray:
    """The float64 reference, the class offset included."""
    rule, numbers = rule_of(case), case.parameters
    images = []
    for image, values in enumerate(predictions_of(case)):
        found = nms.candidates(values, rule)
        compared, by = found, rule
        if numbers.max_wh is not None:
            compared = replace(found, boxes=found.boxes + found.classes[:, None] * numbers.max_wh)
            by = replace(rule, class_agnostic=True)
        retained = found.take(nms.greedy(compared, by))
        images.append(
            np.column_stack([np.full(len(retained), image), retained.boxes, retained.classes, retained.scores])
        )
    return np.concatenate(images)


def certify(case: Case, rows: np.ndarray) -> Certificate:
    """Judge rows (n, 7) by the layout that the case's rule has in a file."""
    predictions, rule = predictions_of(case), rule_of(case)
    if rule.best_class:
        return certify_rows(rows, predictions, rule, EXACT)
    counts = [int((rows[:, 0] == image).sum()) for image in range(case.batch)]
    padded = np.zeros((case.batch, max(counts) + 1, 6))
    for image, count in enumerate(counts):
        padded[image, :count] = rows[rows[:, 0] == image, 1:]
    numbers = np.array(counts)[:, None]
    return certify_padded(numbers, padded[..., :4], padded[..., 5], padded[..., 4], predictions, rule, EXACT)


@pytest.mark.parametrize("name", NAMES)
def test_case(name: str, case: Case) -> None:
    """What the file says follows from its numbers exactly; the reference says the same, and the certificate accepts it."""
    assert set(case.answers) == exact(name).answers(), f"exact arithmetic keeps {shown(sorted(exact(name).answers()))}"

    must_be_right(case, reference_rows(case), "the reference")
    if case.parameters.labels == "best" and case.parameters.max_wh is None:
        must_be_right(case, nms.end2end_ort(predictions_of(case), rule_of(case)), "the reference of end2end-ort")
    if "operator" in domain(case, exact(name)):
        must_be_right(case, operator_rows(case, select_by_reference), "the reference of the operator")
    for answer in (*case.answers, *case.rounding):
        kinds = {breach.kind for breach in certify(case, detections_of(case, answer)).breaches}
        assert kinds == ({case.breach} if case.breach else set()), shown([answer])


@pytest.mark.parametrize("name", NAMES)
def test_rounding_is_all_that_makes_the_answers_under_rounding_right(name: str, case: Case) -> None:
    """They are all that follows from thresholds moved by a few float32 roundings, and does not follow from the thresholds."""
    numbers = exact(name)
    moved: Set[Answer] = set()
    for iou in (-1, 0, 1):
        for score in (-1, 0, 1):
            by_iou, by_score = 1 + Fraction(iou, 2**19), 1 + Fraction(score, 2**21)
            moved |= numbers.under(iou=numbers.iou * by_iou, score=numbers.score * by_score).answers()

    assert set(case.rounding) == moved - numbers.answers()


# The certificate refuses everything else


def in_order(rows: np.ndarray) -> np.ndarray:
    return rows[np.lexsort((-rows[:, 6], rows[:, 0]))]


def changes(case: Case, answer: Answer) -> Iterator[Tuple[str, np.ndarray]]:
    """Every answer that differs from this one in a single thing."""
    rows = detections_of(case, answer)
    rivals = [(row, label) for row in range(len(case.boxes)) for label in range(case.classes)]
    for position, (row, label) in enumerate(answer):
        yield f"row {row} of class {label} dropped", np.delete(rows, position, axis=0)
        for other in range(max(case.classes, 2)):
            if other != label:
                swapped = rows.copy()
                swapped[position, 5] = other
                yield f"row {row} reported as class {other}", swapped
        for column, by in ((1, 1.0), (4, 1.0), (6, 2.0**-10)):
            moved = rows.copy()
            moved[position, column] += by
            yield f"row {row}: column {column} moved by {by:g}", in_order(moved)
    for row, label in sorted(set(rivals) - set(answer)):
        added = np.concatenate([rows, detections_of(case, ((row, label),))])
        yield f"row {row} of class {label} added", in_order(added)
    for position in range(len(rows) - 1):
        if rows[position, 0] == rows[position + 1, 0] and rows[position, 6] != rows[position + 1, 6]:
            turned = rows.copy()
            turned[[position, position + 1]] = turned[[position + 1, position]]
            yield f"detections {position} and {position + 1} in the other order", turned


@pytest.mark.parametrize("name", NAMES)
def test_the_certificate_refuses_every_single_change(name: str, case: Case) -> None:
    answers = sorted(exact(name).under(classes="separated").answers()) if case.breach else case.answers
    legal = [detections_of(case, answer) for answer in (*answers, *case.rounding)]
    accepted, count = [], 0
    for answer in answers:
        for what, rows in changes(case, answer):
            if any(rows.shape == other.shape and (rows == other).all() for other in legal):
                continue
            count += 1
            if certify(case, rows).accepted:
                accepted.append(f"{what} in {shown([answer])}")

    assert accepted == []
    assert count >= 2, "nothing was changed"


# Engines


@dataclass(frozen=True)
class Engine:
    """rule: the rule it implements, given the case's own; takes: what else its domain needs; run: its rows (n, 7); box and score:
    how far its numbers may be from the file's."""

    rule: Callable[[Exact], Exact]
    takes: Callable[[Case, Exact], bool]
    run: Callable[[Case, Any], np.ndarray]
    box: float = 0.0
    score: float = 0.0


def always(case: Case, numbers: Exact) -> bool:
    return True


def domain(case: Case, numbers: Exact) -> List[str]:
    """The engines this case is for."""
    right = numbers.answers()
    return [
        name
        for name, engine in ENGINES.items()
        if engine.takes(case, numbers) and engine.rule(numbers).answers() == right
    ]


@pytest.mark.parametrize("name", NAMES)
def test_engines(name: str, case: Case, workshop: Workshop) -> None:
    names = domain(case, exact(name))

    assert names, f"the case {name} is in no engine's domain, so it checks nothing that runs"
    for engine in names:
        rows = ENGINES[engine].run(case, workshop)
        must_be_right(case, rows, engine, ENGINES[engine].box, ENGINES[engine].score)


# The operator NonMaxSuppression in ONNX Runtime, used as tails use it

# From a case, boxes (B, N, 4) in its coding and scores (B, C, N) to the selected (image, class, box).
Select = Callable[[Case, np.ndarray, np.ndarray], List[List[int]]]


def operator_rows(case: Case, select: Select) -> np.ndarray:
    """Classes on the operator's class axis where they are apart; else every (row, class) as a box of one pseudo-class."""
    score = score_of(case)
    if case.parameters.labels == "best":
        score = np.where(np.arange(case.classes) == case.scores.argmax(axis=1)[:, None], score, -1.0)
    if case.parameters.classes == "separated":
        owners = [np.nonzero(case.images == image)[0] for image in range(case.batch)]
        boxes = padded([case.boxes[rows] for rows in owners], 0.0)
        table = padded([score[rows] for rows in owners], -1.0).transpose(0, 2, 1)
        chosen = [(int(owners[image][row]), int(label)) for image, label, row in select(case, boxes, table)]
        chosen.sort(key=lambda pair: (case.images[pair[0]], -score[pair]))
        retained = [
            pair for image in range(case.batch) for pair in of_image(case, chosen, image)[: case.parameters.cap]
        ]
    else:
        assert case.batch == 1
        pairs = [(row, label) for row in range(len(case.boxes)) for label in range(case.classes)]
        shift = np.float32(case.parameters.max_wh or 0) * np.array([label for _, label in pairs], np.float32)[:, None]
        where = [1.0, 1.0, 1.0, 1.0] if case.box_coding == "corners" else [1.0, 1.0, 0.0, 0.0]
        boxes = case.boxes[[row for row, _ in pairs]].astype(np.float32) + shift * np.array(where, np.float32)
        table = np.array([score[pair] for pair in pairs])[None, None]
        retained = [pairs[index] for _, _, index in select(case, boxes[None], table)]
    return detections_of(case, tuple(retained))


def of_image(case: Case, pairs: Sequence[Tuple[int, int]], image: int) -> List[Tuple[int, int]]:
    return [pair for pair in pairs if case.images[pair[0]] == image]


def padded(parts: Sequence[np.ndarray], value: float) -> np.ndarray:
    """Parts (n, k) of different n as one array (parts, largest n, k)."""
    found = np.full((len(parts), max(map(len, parts)), parts[0].shape[1]), value)
    for position, part in enumerate(parts):
        found[position, : len(part)] = part
    return found


def select_by_reference(case: Case, boxes: np.ndarray, scores: np.ndarray) -> List[List[int]]:
    numbers = case.parameters
    coding = int(case.box_coding == "centre-size")
    found = nms.onnx_nms(boxes, scores, numbers.cap, numbers.iou_threshold, numbers.score_threshold, coding)
    return found.tolist()


def select_by_runtime(case: Case, boxes: np.ndarray, scores: np.ndarray) -> List[List[int]]:
    numbers = case.parameters
    limits = [
        helper.make_tensor("cap", TensorProto.INT64, [1], [numbers.cap]),
        helper.make_tensor("iou", TensorProto.FLOAT, [1], [numbers.iou_threshold]),
        helper.make_tensor("score", TensorProto.FLOAT, [1], [numbers.score_threshold]),
    ]
    given = [helper.make_tensor_value_info(name, TensorProto.FLOAT, [None] * 3) for name in ("boxes", "scores")]
    node = helper.make_node(
        "NonMaxSuppression",
        ["boxes", "scores", "cap", "iou", "score"],
        ["selected"],
        center_point_box=int(case.box_coding == "centre-size"),
    )
    selected = helper.make_tensor_value_info("selected", TensorProto.INT64, [None, 3])
    graph = helper.make_graph([node], "nms", given, [selected], initializer=limits)
    runner = onnxruntime.prepare(model_of(graph), Load(threads=1))
    found = runner.call({"boxes": boxes.astype(np.float32), "scores": scores.astype(np.float32)})
    return found["selected"].tolist()


def model_of(graph: Any, *more: Any) -> bytes:
    opsets = [helper.make_opsetid("", 12), *more]
    return bytes(helper.make_model(graph, opset_imports=opsets, ir_version=7).SerializeToString())


# The plugin by its documented semantics, from a file


def plugin_rows(case: Case, workshop: Workshop) -> np.ndarray:
    numbers = case.parameters
    given = [helper.make_tensor_value_info(name, TensorProto.FLOAT, [None] * 3) for name in ("boxes", "scores")]
    names = ("num_dets", "det_boxes", "det_scores", "det_classes")
    kinds = (TensorProto.INT32, TensorProto.FLOAT, TensorProto.FLOAT, TensorProto.INT32)
    outputs = [helper.make_tensor_value_info(name, kind, None) for name, kind in zip(names, kinds)]
    passing = [helper.make_node("Identity", [name], [f"{name}_in"]) for name in ("boxes", "scores")]
    node = helper.make_node(
        "EfficientNMS_TRT",
        ["boxes_in", "scores_in"],
        names,
        domain="TRT",
        background_class=-1,
        box_coding=int(case.box_coding == "centre-size"),
        class_agnostic=int(numbers.classes == "agnostic"),
        iou_threshold=numbers.iou_threshold,
        max_output_boxes=numbers.cap,
        plugin_version="1",
        score_activation=0,
        score_threshold=numbers.score_threshold,
    )
    graph = helper.make_graph([*passing, node], "plugin", given, outputs)
    path = workshop.folder / f"plugin-{case.name}.onnx"
    path.write_bytes(model_of(graph, helper.make_opsetid("TRT", 1)))
    owners = [np.nonzero(case.images == image)[0] for image in range(case.batch)]
    fed = {"boxes": padded([case.boxes[rows] for rows in owners], 0.0)}
    fed["scores"] = padded([score_of(case)[rows] for rows in owners], 0.0)
    single = {name: value.astype(np.float32) for name, value in fed.items()}
    return rows_of_padded(efficient_nms.prepare(path, Load(threads=1)).call(single))


def rows_of_padded(outputs: Arrays) -> np.ndarray:
    """The four outputs of the plugin as rows (n, 7)."""
    counts, boxes, scores, classes = outputs.values()
    images = []
    for image, (count,) in enumerate(counts):
        retained = np.column_stack([boxes[image], classes[image], scores[image]])[:count]
        images.append(np.column_stack([np.full(count, image), retained]))
    return np.concatenate(images).astype(np.float64)


# The tails of our own exporters


@dataclass(frozen=True, eq=False)
class Workshop:
    """Exports of a small detector, and of one with a single class, with the numbers a case asks for, each made once."""

    folder: Path
    contexts: Dict[Tuple[Any, ...], Context]
    detectors: Dict[int, Any]

    def detector(self, classes: int) -> Any:
        if classes not in self.detectors:
            self.detectors[classes] = conditioned(yaml_config.plan_of(SMALL)[0], f"small-{classes}", 0, classes)
        return self.detectors[classes]

    def context(self, exporter: str, classes: int, promise: NmsPromise, decoded: bool = False) -> Context:
        """decoded: with the predictions of all rows in one tensor, as the official script leaves them, before suppression."""
        numbers = (promise.iou_threshold, promise.score_threshold, promise.cap, promise.max_wh)
        key = (exporter, classes, *numbers, decoded)
        if key not in self.contexts:
            detector, clock = self.detector(classes), Clock()
            if decoded:
                path = self.folder / f"{len(self.contexts)}.onnx"
                path.write_bytes(decoded_first(detector, parse_variant(exporter), promise))
            else:
                path = attempt(detector, exporter, BUNDLED_SIZE, self.folder, nms=promise)
            oracle = make_oracle(detector, clock, ("grid",))
            self.contexts[key] = make_context(detector, open_file(path, detector.facts), oracle, clock, explore)
        return self.contexts[key]


@pytest.fixture(scope="module")
def workshop(tmp_path_factory: pytest.TempPathFactory) -> Workshop:
    return Workshop(tmp_path_factory.mktemp("authored"), {}, {})


def decoded_first(detector: Any, variant: Variant, promise: NmsPromise) -> bytes:
    """An export whose suppression reads predictions (B, rows, fields): its tail takes the numbers of a case as they are."""
    options, plugin = ExportOptions(BUNDLED_SIZE, nms=promise), variant.head == "end2end-trt"
    model = export_graph(
        detector, replace(variant, head="grid"), options, FixedPredictions(detector.network, BUNDLED_SIZE).eval()
    )
    (predictions,) = nms_tails.into_inner(model, [model.graph.output[0].name])
    parts = {"xy": (0, 2), "wh": (2, 4), "boxes": (0, 4), "objectness": (4, 5), "classes": (5, detector.facts.fields)}
    for name, ends in parts.items():
        bounds = [numpy_helper.from_array(np.array([end]), f"{name}/{k}") for k, end in enumerate((*ends, 2))]
        model.graph.initializer.extend(bounds)
        model.graph.node.append(helper.make_node("Slice", [predictions, *(bound.name for bound in bounds)], [name]))
    for name, number in (("half", 0.5), ("one", 1.0)):
        model.graph.initializer.append(numpy_helper.from_array(np.array(number, np.float32), name))
    for op, inputs, output, more in (
        ("Mul", ["wh", "half"], "reach", {}),
        ("Sub", ["xy", "reach"], "low", {}),
        ("Add", ["xy", "reach"], "high", {}),
        ("Concat", ["low", "high"], "corners", {"axis": 2}),
        ("Mul", ["objectness", "classes"] if detector.facts.classes > 1 else ["objectness", "one"], "scores", {}),
        ("Transpose", ["scores"], "by_class", {"perm": [0, 2, 1]}),
    ):
        model.graph.node.append(helper.make_node(op, inputs, [output], **more))
    if plugin:
        nms_tails.append_trt(model, "boxes", "scores", promise, "batch" if variant.dynamic_batch else 1)
    else:
        nms_tails.append_trt_nms(model, "corners", "by_class", promise, None if variant.dynamic_batch else 1)
    return finish(detector, variant, options, edits.prune(model))


def tail_rows(
    case: Case, workshop: Workshop, exporter: str, max_wh: Optional[float], decoded: bool = False
) -> np.ndarray:
    """What the tail of our own export with the case's numbers answers."""
    numbers = case.parameters
    promise = NmsPromise(numbers.iou_threshold, numbers.score_threshold, numbers.cap, max_wh)
    name = exporter if case.batch == 1 else f"{exporter}-dynamic-batch"
    context = workshop.context(name, 1 if case.classes == 1 else 80, promise, decoded)
    return rows_of_tail(case, context)


def rows_of_tail(case: Case, context: Context) -> np.ndarray:
    """What a tail answers; the check nms.tail judges it as the case does."""
    made = predictions_of(case)
    made = np.concatenate([made, np.zeros((*made.shape[:2], context.facts.classes - case.classes))], axis=2)
    cut = find_cut(context)
    assert cut is not None
    given, stands_for = feed(context, cut, made)
    hot = stands_for[stands_for[..., 4] > 0.01]
    expected = made[made[..., 4] > 0.01]
    assert hot.shape == expected.shape
    runner = context.tail_runner(cut.names)
    for missing in set(runner.input_names) - set(given):
        given[missing] = np.zeros((case.batch, 3, *context.contract.size), np.float32)
    outputs = runner.call(given)
    kinds = [finding.evidence["kinds"] for finding in tail_findings(context, cut, made, case.name)]
    assert kinds == ([{case.breach: 1}] if case.breach else [])
    if context.contract.variant.head != "end2end-ort":
        return rows_of_padded(outputs)
    (rows,) = outputs.values()
    return rows.astype(np.float64)


def clear_and_in_reach(case: Case, numbers: Exact) -> bool:
    """Whether logits can hold the case: they give boxes and scores back with an error, and only what this head can decode."""
    part = Fraction(1, 100)
    right = numbers.answers()
    moved = [
        numbers.under(iou=numbers.iou + iou * part, score=numbers.score + score * part).answers()
        for iou in (-1, 1)
        for score in (-1, 1)
    ]
    scores = sorted({score for row in numbers.scores for score in row})
    apart = all(high - low >= part for low, high in zip(scores, scores[1:]))
    x1, y1, x2, y2 = corners_of(case).T
    height, width = BUNDLED_SIZE
    inside = (x1 + x2 >= 0) & (x1 + x2 < 2 * width) & (y1 + y2 >= 0) & (y1 + y2 < 2 * height)
    sized = (x2 - x1 > 0.01) & (y2 - y1 > 0.01) & (x2 - x1 < width) & (y2 - y1 < height)
    return apart and all(answers == right for answers in moved) and bool((inside & sized).all())


def as_ort(numbers: Exact) -> Exact:
    """One class a row, strict; the exporter raises an offset until classes cannot meet."""
    classes = "separated" if numbers.classes == "offset" else numbers.classes
    return numbers.under(labels="best", thresholds="strict", classes=classes)


def at_logits(exporter: str, rule: Callable[[Exact], Exact], takes: Callable[[Case, Exact], bool]) -> Engine:
    """A tail that begins at logits, which hold the numbers of a case with an error."""
    return Engine(
        rule,
        lambda case, numbers: takes(case, numbers) and clear_and_in_reach(case, numbers),
        lambda case, shop: tail_rows(case, shop, exporter, None),
        box=1e-3,
        score=1e-5,
    )


def as_plugin(numbers: Exact) -> Exact:
    classes = "separated" if numbers.classes == "offset" else numbers.classes
    return numbers.under(labels="every", thresholds="inclusive", classes=classes)


def as_trt(numbers: Exact) -> Exact:
    return as_plugin(numbers).under(classes="separated")


def as_trt_nms(numbers: Exact) -> Exact:
    return numbers.under(labels="every", thresholds="strict", classes="separated")


def in_plugin(case: Case, numbers: Exact) -> bool:
    """Under a score threshold of 0.007 the plugin ranks what is below it last instead of dropping it."""
    return case.parameters.score_threshold >= 0.007


ENGINES: Mapping[str, Engine] = {
    "operator": Engine(
        lambda numbers: numbers.under(thresholds="strict"),
        always,
        lambda case, _: operator_rows(case, select_by_runtime),
    ),
    "plugin": Engine(as_plugin, in_plugin, plugin_rows),
    "end2end-ort": Engine(
        as_ort,
        clear_and_in_reach,
        lambda case, shop: tail_rows(case, shop, "end2end-ort", float(case.parameters.classes != "agnostic")),
        box=1e-3,
        score=1e-5,
    ),
    "end2end-trt": at_logits("end2end-trt", as_trt, in_plugin),
    "predictions-trt": Engine(
        as_trt, in_plugin, lambda case, shop: tail_rows(case, shop, "end2end-trt", None, decoded=True)
    ),
    "end2end-trt-nms": at_logits("end2end-trt-nms", as_trt_nms, always),
    "predictions-trt-nms": Engine(
        as_trt_nms, always, lambda case, shop: tail_rows(case, shop, "end2end-trt-nms", None, decoded=True)
    ),
}


def test_the_official_export_falls_into_the_trap(shared_data: Path) -> None:
    """The real file, made with --max-wh 320 at 320x320, loses the box, and nms.tail misses it."""
    case = read_case(FOLDER / "offset_trap.json")
    official = Session(Options(ModelChoice((shared_data / "checkpoints" / "yolov7-tiny-torch1.13.pt",))))
    context = official.context(shared_data / "artifacts" / "yolov7-tiny" / "end2end-ort.onnx")
    found = onnx_nms.find(context.onnx.graph)
    assert found is not None
    assert (found.cap, found.max_wh) == (case.parameters.cap, case.parameters.max_wh)
    expected = (case.parameters.iou_threshold, case.parameters.score_threshold)
    assert (found.iou_threshold, found.score_threshold) == tuple(float(np.float32(number)) for number in expected)

    must_be_right(case, rows_of_tail(case, context), "the official export")


# The page


def test_the_page_lists_every_case_and_what_runs_it() -> None:
    page = resources.root() / "docs" / "authored_cases.md"
    if not page.is_file():
        pytest.skip("an installed kit has no docs")
    listed = page.read_text(encoding="utf-8").split("| case | rule | run by |\n|---|---|---|\n")[1]
    cases = {name: read_case(FOLDER / f"{name}.json") for name in NAMES}
    engines = {name: domain(case, exact(name)) for name, case in cases.items()}
    expected = "".join(f"| `{name}` | {cases[name].title} | {', '.join(engines[name])} |\n" for name in NAMES)

    assert listed == expected, f"the table should be\n{expected}"
    assert {engine for names in engines.values() for engine in names} == set(ENGINES)
