"""Precision: on scenes with a truth, a file detects exactly as well as its model does, as far as float32 leaves that open."""

from __future__ import annotations

from typing import Dict, Iterator, List, Optional, Sequence, Tuple

import numpy as np

from detparity.checks.nms import layout_problem, rule_of, tolerance_of
from detparity.checks.parity import shape_problem
from detparity.contract import MUST, Contract
from detparity.failures import number
from detparity.findings import CannotRun, Check, Finding, Row
from detparity.oracle.answers import answers
from detparity.oracle.boxes import iou
from detparity.oracle.certificate import Tolerance
from detparity.oracle.head import decode
from detparity.oracle.nms import NmsRule, candidates, greedy
from detparity.oracle.noise import split_levels
from detparity.oracle.precision import Detected, Objects, Precision, bounds, precision
from detparity.oracle.truths import Picture
from detparity.scenes import CLASSES, scene
from detparity.subject import Arrays
from detparity.trial import Case, Trial

SCENES = 16
BATCH = 4  # of a file whose batch varies
SLACK = 1e-4  # of mAP, beyond what noise permits
# What predictions are evaluated by where no suppression is in the file.
RULE = NmsRule(iou_threshold=0.6, score_threshold=0.05, cap=300, best_class=True)


def average_precision(trial: Trial) -> Iterator[Finding]:
    """mAP of the file and of the model in float64 on the same held-out scenes."""
    contract = trial.contract
    rule = rule_of(contract) if contract.variant.end2end else RULE
    labels = {trial.facts.names.index(name): index for index, name in enumerate(CLASSES)}
    cases = _cases(contract)
    found: List[Detected] = []
    for case in cases:
        outputs = trial.run(trial.batch(case))
        wrong = _problem(trial, case, outputs)
        if wrong:
            yield wrong
            return
        found += [_labelled(one, labels) for one in _detections(trial, case, outputs, rule)]
    pictures = [picture for case in cases for picture in case.pictures]
    predictions, tolerance = _model(trial, pictures)
    possible = [
        answers(values, rule, Tolerance(move, tolerance.score, tolerance.iou_slack))
        for values, move in zip(predictions, np.asarray(tolerance.box))
    ]
    settled = [index for index, sets in enumerate(possible) if sets is not None]
    if not settled:
        raise CannotRun("noise leaves the detections of every scene open")
    alternatives = [[_labelled(one, labels) for one in possible[index] or ()] for index in settled]
    model = [_labelled(_suppressed(predictions[index], rule), labels) for index in settled]
    file = [found[index] for index in settled]
    truths = [_objects(pictures[index], contract) for index in settled]
    ends = bounds(alternatives, truths, len(CLASSES), tolerance.score)
    ours, theirs = (precision(each, truths, len(CLASSES)) for each in (model, file))
    over = [
        name
        for name, low, value, high in zip(("mAP50", "mAP50-95"), *map(_both, (ends[0], theirs, ends[1])))
        if not low - SLACK <= value <= high + SLACK
    ]
    if over:
        where = _first_difference([pictures[k] for k in settled], alternatives, model, file, tolerance.score)
        yield _finding(contract, over, ours, theirs, ends, where, len(settled))


def _both(found: Precision) -> Tuple[float, float]:
    return found.map50, found.map


def _cases(contract: Contract) -> List[Case]:
    """The scenes, in batches as the contract has them."""
    batch = BATCH if contract.variant.dynamic_batch else contract.batch
    return [
        Case(contract.size, tuple(("scene", first + slot) for slot in range(batch)))
        for first in range(0, SCENES, batch)
    ]


def _problem(trial: Trial, case: Case, outputs: Arrays) -> Optional[Finding]:
    if trial.contract.variant.end2end:
        return layout_problem(trial, outputs, len(case.pictures), str(case))
    return shape_problem(trial, case, outputs)


def _model(trial: Trial, pictures: Sequence[Picture]) -> Tuple[List[np.ndarray], Tolerance]:
    """The model's predictions for each picture, and how far noise may move them."""
    size = trial.contract.size
    truths = [trial.oracle.truth(picture, size, "grid") for picture in pictures]
    return [np.concatenate(truth.levels) for truth in truths], tolerance_of(truths, trial.contract)


def _suppressed(predictions: np.ndarray, rule: NmsRule) -> Detected:
    found = candidates(predictions, rule)
    kept = found.take(greedy(found, rule))
    return Detected(kept.boxes, kept.scores, kept.classes)


def _detections(trial: Trial, case: Case, outputs: Arrays, rule: NmsRule) -> List[Detected]:
    """What a file detects in each image of a batch: its own detections, or its predictions under the reference suppression."""
    head, images = trial.contract.variant.head, range(len(case.pictures))
    arrays = list(outputs.values())
    if head == "end2end-ort":
        rows = arrays[0].astype(np.float64)
        return [_finite(rows[rows[:, 0] == image, 1:5], *rows[rows[:, 0] == image][:, [6, 5]].T) for image in images]
    if trial.contract.variant.end2end:
        counts, boxes, scores, classes = (array.astype(np.float64) for array in arrays[:4])
        return [
            _finite(*(array[image, : int(counts[image, 0])] for array in (boxes, scores, classes))) for image in images
        ]
    found = []
    for image in images:
        levels = split_levels(head, trial.facts, case.size, outputs, image)
        if head == "raw":
            shapes = [
                (trial.facts.anchors_per_level, *cells, trial.facts.fields) for cells in trial.facts.cells(case.size)
            ]
            levels = decode(trial.facts, [level.reshape(shape) for level, shape in zip(levels, shapes)])[0]
        found.append(_suppressed(np.concatenate(levels), rule))
    return found


def _finite(boxes: np.ndarray, scores: np.ndarray, classes: np.ndarray) -> Detected:
    """Detections without those that have a number that is none, which match nothing."""
    fine = np.isfinite(boxes).all(axis=1) & np.isfinite(scores) & np.isfinite(classes)
    return Detected(boxes[fine], scores[fine], np.rint(classes[fine]).astype(np.int64))


def _labelled(found: Detected, labels: Dict[int, int]) -> Detected:
    """The detections of scene classes, by their indices there: a model may have others, and another order."""
    known = np.array([int(label) in labels for label in found.classes], np.bool_)
    classes = np.array([labels[int(label)] for label in found.classes[known]], np.int64)
    moves = None if found.moves is None else found.moves[known]
    return Detected(found.boxes[known], found.scores[known], classes, moves)


def _objects(picture: Picture, contract: Contract) -> Objects:
    drawn = scene(contract.size, picture[1])
    return Objects(drawn.boxes, drawn.classes)


# --- what is said


def _finding(
    contract: Contract,
    over: Sequence[str],
    model: Precision,
    file: Precision,
    ends: Tuple[Precision, Precision],
    where: str,
    count: int,
) -> Finding:
    names = ("mAP50", "mAP50-95")
    numbers = {name: pair for name, pair in zip(names, zip(_both(model), _both(file)))}
    rows: List[Row] = [("", "model", "file", "noise permits")]
    for name, low, high in zip(names, *map(_both, ends)):
        rows.append((name, *(f"{value:.4f}" for value in numbers[name]), f"{low:.4f} to {high:.4f}"))
    for index, name in enumerate(CLASSES):
        rows.append((f"AP50 {name}", *(f"{found.table[index, 0]:.4f}" for found in (model, file))))
    first = over[0]
    ours, theirs = numbers[first]
    size = f"{contract.size[0]}x{contract.size[1]}"
    return Finding(
        f"has {'less' if theirs < ours else 'more'} {first} than the model on {count} scenes of {size}: "
        f"{theirs:.4f} where it has {ours:.4f}.",
        tuple(rows),
        headed=True,
        notes=(where,) if where else (),
        evidence={name: {"model": pair[0], "file": pair[1]} for name, pair in numbers.items()},
    )


def _first_difference(
    pictures: Sequence[Picture],
    alternatives: Sequence[Sequence[Detected]],
    model: Sequence[Detected],
    file: Sequence[Detected],
    noise: float,
) -> str:
    """The first detection of the model that the file does not have, in the first scene where it differs beyond the noise."""
    for (kind, seed), sets, ours, theirs in zip(pictures, alternatives, model, file):
        if any(not _strangers(one, theirs, noise) for one in sets):
            continue
        lost = _strangers(ours, theirs, noise)
        if lost is None:
            continue
        who, index = lost
        found, other, title = (ours, theirs, "the model") if who else (theirs, ours, "the file")
        overlaps = iou(found.boxes[index], other.boxes) if len(other.scores) else np.zeros(0)
        nearest = ""
        if len(overlaps) and overlaps.max() > 0.1:
            nearest = f"; there {'the file' if who else 'the model'} finds {_described(other, int(overlaps.argmax()))}"
        return (
            f"First in {kind} {seed}: {title} finds {_described(found, index)}{nearest or ', the other nothing there'}."
        )
    return ""


def _strangers(one: Detected, other: Detected, noise: float) -> Optional[Tuple[bool, int]]:
    """The best detection without a partner, of `one` (True) or of `other`: same class, box within a pixel or so, score within the
    noise."""
    for first, second in ((one, other), (other, one)):
        for index in np.argsort(-first.scores, kind="stable"):
            same = second.classes == first.classes[index]
            near = np.abs(second.boxes - first.boxes[index]).max(axis=1, initial=0.0) < 0.5
            if not (same & near & (np.abs(second.scores - first.scores[index]) <= noise)).any():
                return first is one, int(index)
    return None


def _described(found: Detected, index: int) -> str:
    box = ", ".join(number(float(value)) for value in found.boxes[index])
    return f"a {CLASSES[int(found.classes[index])]} of {number(float(found.scores[index]))} at ({box})"


def _knows_scenes(contract: Contract) -> bool:
    return set(CLASSES) <= set(contract.facts.names)


CHECKS: Tuple[Check, ...] = (
    Check(
        "parity.map",
        MUST,
        "On scenes with a truth, the mAP of the model, where it knows their classes.",
        average_precision,
        _knows_scenes,
        ("structure.load", "script.load", "nms.operator"),
    ),
)
