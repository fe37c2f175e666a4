"""Precision: on scenes with a truth, a file detects exactly as well as its model does, as far as float32 leaves that open."""

from __future__ import annotations

from dataclasses import dataclass, replace
from functools import partial
from typing import Iterator, List, Optional, Sequence, Tuple

import numpy as np

from detparity.checks.context import Context
from detparity.checks.nms import layout_problem, rule_of, tolerance_of
from detparity.checks.parity import shape_problem
from detparity.core.case import Case
from detparity.core.contract import MUST, Contract
from detparity.core.findings import CannotRun, Check, Finding, Row
from detparity.core.precision import FLOAT32
from detparity.core.text import number
from detparity.core.vocabulary import Arrays, Picture
from detparity.inputs.scenes import CLASSES, drawn_objects
from detparity.oracle.average_precision import Detected, Objects, Precision, bounds, precision
from detparity.oracle.boxes import iou
from detparity.oracle.decode import decode
from detparity.oracle.nms import NmsRule, candidates, greedy
from detparity.oracle.nms_alternatives import answers
from detparity.oracle.noise_floor import split_levels

SCENES = 16
BATCH = 4  # of a file whose batch varies
SLACK = 1e-4  # of mAP, beyond what noise permits
NAMES = ("mAP50", "mAP50-95")
NEAR = 0.1  # the least IoU with what a detection is compared with, in a message
# What predictions are evaluated by where no suppression is in the file.
RULE = NmsRule(iou_threshold=0.6, score_threshold=0.05, cap=300, best_class=True)


@dataclass(frozen=True, eq=False)
class _Model:
    """What the model makes of the scenes under one rule, scene by scene: pictures, truths, its detections and all those that noise
    permits; its precision, the least and the most that noise permits, and the noise of a score.

    settled: indices of the scenes of which noise permits few enough answers; the rest lists these alone.
    """

    settled: Tuple[int, ...]
    pictures: Tuple[Picture, ...]
    truths: Tuple[Objects, ...]
    detections: Tuple[Detected, ...]
    alternatives: Tuple[Tuple[Detected, ...], ...]
    precision: Precision
    bounds: Tuple[Precision, Precision]
    noise: float


def average_precision(context: Context) -> Iterator[Finding]:
    """mAP of the file and of the model in float64 on the same held-out scenes."""
    contract = context.contract
    rule = rule_of(contract) if contract.variant.end2end else RULE
    cases = _cases(contract)
    pictures = _scenes(cases)
    found: List[Detected] = []
    for case in cases:
        outputs = context.predict(case)
        wrong = outputs_problem(context, case, outputs)
        if wrong:
            yield wrong
            return
        found += [_labelled(one, contract) for one in detections(context, case, outputs, rule)]
    for complete in (False, True):  # the noise of the first run suffices, unless the file is beyond it
        key = ("precision", rule, pictures, contract.size, contract.nms and contract.nms.max_wh, complete)
        model: _Model = context.oracle.once(key, partial(_model, context, pictures, rule, complete))
        file = [found[index] for index in model.settled]  # of a batch of more, its first images
        theirs = precision(file, model.truths, len(CLASSES))
        over = [
            name
            for name, low, value, high in zip(NAMES, *map(_both, (model.bounds[0], theirs, model.bounds[1])))
            if not low - SLACK <= value <= high + SLACK
        ]
        if not over:
            return
    yield _finding(contract, over[0], model, theirs, _first_difference(model, file))


def _model(context: Context, pictures: Tuple[Picture, ...], rule: NmsRule, complete: bool) -> _Model:
    """complete: whether the noise is that of all float32 runs, or of the first."""
    contract = context.contract
    known = [context.oracle.growing(context.taken(picture), contract.size, "grid") for picture in pictures]
    truths = [list(one)[-1] if complete else next(one) for one in known]
    predictions = [np.concatenate(truth.levels) for truth in truths]
    tolerance = tolerance_of(truths, contract)
    possible = [
        answers(values, rule, replace(tolerance, box=moves))
        for values, moves in zip(predictions, np.asarray(tolerance.box))
    ]
    settled = tuple(index for index, sets in enumerate(possible) if sets is not None)
    drawn = tuple(_objects(pictures[index], contract) for index in settled)
    alternatives = tuple(tuple(_labelled(one, contract) for one in possible[index] or ()) for index in settled)
    own = tuple(_labelled(suppressed(predictions[index], rule), contract) for index in settled)
    if not any(len(one.classes) for one in drawn):
        raise CannotRun(f"noise leaves the detections of every scene of {contract.size[0]}x{contract.size[1]} open")
    return _Model(
        settled,
        tuple(pictures[index] for index in settled),
        drawn,
        own,
        alternatives,
        precision(own, drawn, len(CLASSES)),
        bounds(alternatives, drawn, len(CLASSES), tolerance.score),
        tolerance.score,
    )


def _both(found: Precision) -> Tuple[float, float]:
    return found.map50, found.map


def _cases(contract: Contract) -> List[Case]:
    """The scenes, in batches as the contract has them."""
    batch = BATCH if contract.variant.dynamic_batch else contract.batch
    return [
        Case(contract.size, tuple(("scene", first + slot % SCENES) for slot in range(batch)))
        for first in range(0, SCENES, batch)
    ]


def _scenes(cases: Sequence[Case]) -> Tuple[Picture, ...]:
    """The pictures of all cases, each once."""
    return tuple(dict.fromkeys(picture for case in cases for picture in case.pictures))


def outputs_problem(context: Context, case: Case, outputs: Arrays) -> Optional[Finding]:
    """A finding where the outputs cannot be read as detections."""
    if context.contract.variant.end2end:
        return layout_problem(context, outputs, len(case.pictures), str(case))
    return shape_problem(context, case, outputs)


def suppressed(predictions: np.ndarray, rule: NmsRule) -> Detected:
    """Detections of predictions (rows, 5 + classes) under the reference suppression."""
    found = candidates(predictions, rule)
    left = found.take(greedy(found, rule))
    return Detected(left.boxes, left.scores, left.classes)


def detections(context: Context, case: Case, outputs: Arrays, rule: NmsRule) -> List[Detected]:
    """What a file detects in each image of a batch: its own detections, or its predictions under the reference suppression."""
    head, images = context.contract.variant.head, range(min(len(case.pictures), SCENES))
    arrays = list(outputs.values())
    if head == "end2end-ort":
        rows = arrays[0].astype(np.float64)
        return [_finite(rows[rows[:, 0] == image, 1:5], *rows[rows[:, 0] == image][:, [6, 5]].T) for image in images]
    if context.contract.variant.end2end:
        counts, boxes, scores, classes = (array.astype(np.float64) for array in arrays[:4])
        return [
            _finite(*(array[image, : int(counts[image, 0])] for array in (boxes, scores, classes))) for image in images
        ]
    found = []
    for image in images:
        levels = split_levels(head, context.facts, case.size, outputs, image)
        if head == "raw":
            shapes = [
                (context.facts.anchors_per_level, *cells, context.facts.fields)
                for cells in context.facts.cells(case.size)
            ]
            levels = decode(context.facts, [level.reshape(shape) for level, shape in zip(levels, shapes)])[0]
        found.append(suppressed(np.concatenate(levels), rule))
    return found


def _finite(boxes: np.ndarray, scores: np.ndarray, classes: np.ndarray) -> Detected:
    """Detections without those that have a number that is none, which match nothing."""
    fine = np.isfinite(boxes).all(axis=1) & np.isfinite(scores) & np.isfinite(classes)
    return Detected(boxes[fine], scores[fine], np.rint(classes[fine]).astype(np.int64))


def _labelled(found: Detected, contract: Contract) -> Detected:
    """The detections of scene classes, by their indices there: a model may have others, and another order."""
    labels = {contract.facts.names.index(name): index for index, name in enumerate(CLASSES)}
    known = np.array([int(label) in labels for label in found.classes], np.bool_)
    classes = np.array([labels[int(label)] for label in found.classes[known]], np.int64)
    moves = None if found.moves is None else found.moves[known]
    return Detected(found.boxes[known], found.scores[known], classes, moves)


def scene_objects(picture: Picture, contract: Contract) -> Objects:
    """The objects of a scene by the model's class numbers."""
    found = _objects(picture, contract)
    numbers = np.array([contract.facts.names.index(CLASSES[int(label)]) for label in found.classes], np.int64)
    return Objects(found.boxes, numbers)


def _objects(picture: Picture, contract: Contract) -> Objects:
    return Objects(*drawn_objects(contract.size, picture[1]))


# --- findings


def _finding(contract: Contract, first: str, model: _Model, file: Precision, where: str) -> Finding:
    numbers = {name: pair for name, pair in zip(NAMES, zip(_both(model.precision), _both(file)))}
    rows: List[Row] = [("", "model", "file", "noise permits")]
    for name, low, high in zip(NAMES, *map(_both, model.bounds)):
        rows.append((name, *(f"{value:.4f}" for value in numbers[name]), f"{low:.4f} to {high:.4f}"))
    for index, name in enumerate(CLASSES):
        rows.append((f"AP50 {name}", *(f"{found.table[index, 0]:.4f}" for found in (model.precision, file))))
    ours, theirs = numbers[first]
    size = f"{contract.size[0]}x{contract.size[1]}"
    return Finding(
        f"has {'less' if theirs < ours else 'more'} {first} than the model on {len(model.settled)} scenes of {size}: "
        f"{theirs:.4f} where it has {ours:.4f}.",
        tuple(rows),
        headed=True,
        notes=(where,) if where else (),
        evidence={name: {"model": pair[0], "file": pair[1]} for name, pair in numbers.items()},
    )


def _first_difference(model: _Model, file: Sequence[Detected]) -> str:
    """The best detection that the other does not have, in the first scene where the two differ beyond the noise."""
    for (kind, seed), sets, ours, theirs in zip(model.pictures, model.alternatives, model.detections, file):
        lost = _stranger(ours, theirs, model.noise)
        if lost is None or any(_stranger(one, theirs, model.noise) is None for one in sets):
            continue
        mine, index = lost
        found, other = (ours, theirs) if mine else (theirs, ours)
        here, there = ("the model", "the file") if mine else ("the file", "the model")
        overlaps = iou(found.boxes[index], other.boxes) if len(other.scores) else np.zeros(1)
        near = overlaps.max() > NEAR
        rest = (
            f"there {there} finds {_described(other, int(overlaps.argmax()))}" if near else f"{there} nothing near it"
        )
        return f"First in {kind} {seed}: {here} finds {_described(found, index)}; {rest}."
    return ""


def _stranger(one: Detected, other: Detected, noise: float) -> Optional[Tuple[bool, int]]:
    """The best detection without a partner, of `one` (True) or of `other`: same class, box within half a pixel, score within the
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


def knows_scenes(contract: Contract) -> bool:
    """Whether the model knows the classes of the scenes."""
    return set(CLASSES) <= set(contract.facts.names)


def _exact(contract: Contract) -> bool:
    """The noise of half precision permits too many answers for all of them to be worked out; a budget judges 8 bits."""
    return knows_scenes(contract) and contract.precision == FLOAT32


CHECKS: Tuple[Check, ...] = (
    Check(
        "parity.map",
        MUST,
        "On scenes with a truth, the mAP of the model, where it knows their classes.",
        average_precision,
        _exact,
        ("structure.load", "script.load", "nms.operator"),
    ),
)
