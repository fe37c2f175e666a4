"""Suppression inside the graph: the operator and its numbers, classes that cannot meet, and what comes out, by certificate."""

from __future__ import annotations

from typing import Any, Dict, Iterator, List, Optional, Sequence, Tuple

import numpy as np

from detparity.checks.causes import explained
from detparity.checks.context import Context
from detparity.checks.inputs import cases_of, cheap_size, distinct, failing_cases, first_photo, pictures, space
from detparity.checks.nms_graph import (
    attributes,
    baked,
    class_offset,
    head_range,
    operator,
    promise_of,
    suppression_of,
    thresholds,
)
from detparity.checks.nms_tail import Cut, dense, feed, find_cut
from detparity.core.case import Case
from detparity.core.contract import INFO, MUST, Contract, largest_size
from detparity.core.errors import EngineError
from detparity.core.findings import CannotRun, Check, Finding, Row, refused
from detparity.core.precision import EPSILON, HALVES
from detparity.core.vocabulary import Arrays
from detparity.inputs import images
from detparity.oracle import class_offset as offset
from detparity.oracle.nms import NmsRule, end2end_ort_rule, end2end_trt_nms_rule, end2end_trt_rule
from detparity.oracle.nms_case import Certificate, Tolerance
from detparity.oracle.nms_certificate import certify_padded, certify_rows
from detparity.oracle.noise_floor import EPS32, Truth

# How many floors a number may be from the truth before it is another number: the largest of 200 correct exports was 2.2.
FLOORS = 5.0
SCORE_ROUNDING = 2e-6
DETECTIONS = "nms.detections"
DRAWS = 40
LARGE_BATCH = 8  # from which on the tail is fed less often: every image of a batch is certified


def rule_of(contract: Contract) -> NmsRule:
    promise = contract.nms
    assert promise is not None
    numbers = (float(np.float32(promise.iou_threshold)), float(np.float32(promise.score_threshold)), promise.cap)
    if contract.variant.head == "end2end-ort":
        return end2end_ort_rule(*numbers, class_agnostic=promise.max_wh == 0)
    if contract.variant.head == "end2end-trt-nms":
        return end2end_trt_nms_rule(*numbers)
    return end2end_trt_rule(*numbers)


def _slack(contract: Contract) -> float:
    """Pixels a shifted coordinate may be rounded by."""
    promise = contract.nms
    return offset.iou_slack(head_range(contract), promise.max_wh) if promise and promise.max_wh else 0.0


def certify(contract: Contract, outputs: Arrays, predictions: np.ndarray, tolerance: Tolerance) -> Certificate:
    """Judge the outputs of an end2end file against decoded float64 predictions (B, rows, fields)."""
    arrays = list(outputs.values())
    if contract.variant.head == "end2end-ort":
        return certify_rows(arrays[0], predictions, rule_of(contract), tolerance)
    counts, boxes, scores, classes = arrays[:4]
    return certify_padded(counts, boxes, scores, classes, predictions, rule_of(contract), tolerance)


def tolerance_of(truths: Sequence[Truth], contract: Contract) -> Tolerance:
    """How far a candidate of these images may be from the truth: per row in px, and in score."""
    boxes, score = [], 0.0
    for truth in truths:
        rows = []
        for level, values in enumerate(truth.levels):
            floor = {group: truth.floor[level, group].max for group in ("xy", "wh", "objectness", "class")}
            rows.append(np.full(len(values), FLOORS * (floor["xy"] + floor["wh"] / 2)))
            score = max(score, FLOORS * (floor["objectness"] + floor["class"]))
        boxes.append(np.concatenate(rows))
    return Tolerance(np.stack(boxes), score + _score_rounding(contract), _slack(contract))


def _score_rounding(contract: Contract) -> float:
    """What multiplying two scores and storing the product may change."""
    return EPSILON[contract.precision] if contract.precision in HALVES else SCORE_ROUNDING


def compare(context: Context, case: Case, **engine: Any) -> List[Finding]:
    """Run one case and certify its detections against the truth of every image."""
    try:
        return judge_outputs(context, case, context.run(context.batch(case), **engine))
    except EngineError as error:
        return [refused(error, case)]


def judge_outputs(context: Context, case: Case, outputs: Arrays) -> List[Finding]:
    """Certify what one run detected."""
    wrong = layout_problem(context, outputs, len(case.pictures), case)
    if wrong:
        return [wrong]
    found: List[Finding] = []
    for truths in _growing(context, case):
        predictions = np.stack([np.concatenate(truth.levels) for truth in truths])
        found = _findings(certify(context.contract, outputs, predictions, tolerance_of(truths, context.contract)), case)
        if not found:
            break  # what could come from candidates moved this little could come from those moved further
    return found


def _growing(context: Context, case: Case) -> Iterator[List[Truth]]:
    """The truths of all pictures of a case, each with its first floor, then with its complete one."""
    yield [next(context.growing(picture, case.size)) for picture in case.pictures]
    yield [context.truth(picture, case.size) for picture in case.pictures]


def layout_problem(context: Context, outputs: Arrays, batch: int, where: object) -> Optional[Finding]:
    """Count, shapes and types of the outputs, before anything is read from them."""
    promised = context.shapes(batch, context.contract.size)
    kinds = [promise.dtype for promise in context.contract.outputs]
    shapes = [array.shape for array in outputs.values()]
    fits = len(shapes) == len(promised) and all(
        len(shape) == len(other) and all(b in (-1, a) for a, b in zip(shape, other))
        for shape, other in zip(shapes, promised)
    )
    if fits and [array.dtype.name for array in outputs.values()] == kinds:
        return None
    rows = (
        ("promised", f"{promised} {[str(kind) for kind in kinds]}"),
        ("produced", f"{shapes} {[str(a.dtype) for a in outputs.values()]}"),
    )
    evidence = {"case": where, "shapes": [list(shape) for shape in shapes]}
    return Finding(f"returns other shapes or types than promised at {where}.", rows, evidence=evidence)


def _findings(certificate: Certificate, where: object) -> List[Finding]:
    if certificate.accepted:
        return []
    first = certificate.breaches[0]
    kinds: Dict[str, int] = {}
    for breach in certificate.breaches:
        kinds[breach.kind] = kinds.get(breach.kind, 0) + 1
    rows: List[Row] = [("breaches", ", ".join(f"{count} {kind}" for kind, count in kinds.items()))]
    if certificate.near_ties:
        ties = sum(tie.count for tie in certificate.near_ties)
        rows.append(("near ties", f"{ties} decided by margin, none of them this"))
    notes = tuple(breach.sentence for breach in certificate.breaches[:3])
    return [
        Finding(
            f"gives detections that do not follow from the model's predictions at {where}.",
            tuple(rows),
            notes=notes,
            evidence={"case": where, "kinds": kinds, "first": {"kind": first.kind, **first.facts}},
        )
    ]


def detections(context: Context) -> Iterator[Finding]:
    """Every kind of picture at the declared size and batch."""
    contract = context.contract
    cases = cases_of(contract.batch, images.OF_DETECTIONS, 1, contract.size)
    draws = 2 if distinct(contract.batch, contract.size) == contract.batch else 0
    tried = space(context, cases, draws, only=contract.size, batches=(contract.batch, contract.batch))
    yield from explained(context, context.explore(tried, lambda case: compare(context, case)), judge_outputs)


def sizes(context: Context) -> Iterator[Finding]:
    """Other sizes: the smallest, wide, tall, the largest sensible one, and a few drawn."""
    stride, contract = context.facts.max_stride, context.contract
    tried = [
        (2 * stride, 3 * stride),
        (stride, stride),
        (5 * stride, 2 * stride),
        (largest_size(contract)[0], contract.size[1]),
    ]
    cases = [Case(size, pictures(1, seed=k)) for k, size in enumerate(tried)]
    yield from context.explore(space(context, cases, 3), lambda case: compare(context, case))


def photos(context: Context) -> Iterator[Finding]:
    """The user's own pictures, all of them; the first whose detections do not follow."""
    yield from explained(context, first_photo(context, "nms.images", context.fixed_batch, compare), judge_outputs)


def batches(context: Context) -> Iterator[Finding]:
    """Batches of different pictures with different counts of detections, an empty one among them."""
    size = cheap_size(context)
    mixed = (("scene", 3), ("black", 0), ("noise", 2), ("white", 0), ("natural", 5))
    cases = [Case(size, mixed[:count]) for count in (3, 1, 2, 5)]
    yield from context.explore(space(context, cases, 2, only=size, batches=(1, 5)), lambda case: compare(context, case))


def repeat(context: Context) -> Iterator[Finding]:
    """The same input twice gives the same detections, and its buffer is not written to."""
    contract = context.contract
    given = context.batch(Case(contract.size, pictures(contract.batch, "scene", 3, contract.size)))
    before = given.copy()
    first, again = context.run(given), context.run(given)
    if any(not np.array_equal(first[name], again[name], equal_nan=True) for name in first):
        yield Finding("gives other detections when it is given the same input again.")
    if not np.array_equal(given, before):
        yield Finding("writes to its input buffer.")


def optimisation(context: Context) -> Iterator[Finding]:
    """With graph optimisations disabled the detections are right as well."""
    contract = context.contract
    scene = Case(contract.size, pictures(contract.batch, "scene", 4, contract.size))
    tried = (compare(context, case, optimisation="disabled") for case in [*failing_cases(context, DETECTIONS), scene])
    yield from next(filter(None, tried), [])
    context.forget(optimisation="disabled")


def tail(context: Context) -> Iterator[Finding]:
    """The part after the predictions, fed predictions made for it: ties, thresholds, caps, neighbouring classes, none at all."""
    cut = find_cut(context)
    if cut is None:
        raise CannotRun("no tensor separates the predictions from the suppression; it was driven through images only")
    contract, promise = context.contract, promise_of(context)
    batch = 3 if contract.variant.dynamic_batch else contract.batch
    seeds, draws = (2, DRAWS // 4) if context.quick or batch > LARGE_BATCH else (4, DRAWS)
    for seed in range(seeds):
        made = dense(
            context.facts, contract.size, promise.iou_threshold, promise.score_threshold, promise.cap, batch, seed
        )
        found = tail_findings(context, cut, made, f"{made.shape[1]} dense predictions (seed {seed})")
        if found:
            yield from found
            return
    yield from context.explore_boxes(
        (1, 3) if contract.variant.dynamic_batch else (contract.batch, contract.batch),
        context.facts.classes,
        max(contract.size),
        promise.score_threshold,
        draws,
        lambda made: tail_findings(context, cut, made, f"{made.shape[0]} images of {made.shape[1]} drawn predictions"),
    )


def tail_findings(context: Context, cut: Cut, made: np.ndarray, where: str) -> List[Finding]:
    given, predictions = feed(context, cut, made)
    runner = context.tail_runner(cut.names)
    images = np.zeros((len(made), 3, *context.contract.size), np.float32)
    for name, value in context.form.feed(context.form.image, images, context.filled).items():
        if name in runner.input_names and name not in given:  # only its shape is read
            given[name] = value
    try:
        with context.clock.running():
            outputs = runner.call(given)
    except EngineError as error:
        return [refused(error, where)]
    wrong = layout_problem(context, outputs, len(made), where)
    if wrong:
        return [wrong]
    reach = np.abs(predictions[..., :4]).sum(-1) + max(context.facts.strides)
    tolerance = Tolerance(16 * EPS32 * reach, SCORE_ROUNDING, _slack(context.contract))
    return _findings(certify(context.contract, outputs, predictions, tolerance), where)


def tensorrt(context: Context) -> Iterator[Finding]:
    """The same detections from a TensorRT engine built from the file."""
    contract = context.contract
    case = Case(contract.size, pictures(contract.batch, "scene", 4, contract.size))
    yield from compare(context, case, engine="tensorrt")


def deprecated(context: Context) -> Iterator[Finding]:
    if suppression_of(context).plugin:
        yield Finding(
            "relies on the plugin EfficientNMS_TRT, which TensorRT deprecates from 10.12 on.",
            notes=("The operator NonMaxSuppression does the same on newer versions.",),
            level=INFO,
        )


def _end2end(contract: Contract) -> bool:
    return contract.variant.end2end


def _certified(contract: Contract) -> bool:
    """Whether detections are those of the model within its noise; in a file of 8 bits the budget judges them."""
    return contract.variant.end2end and not contract.quantised


def _ort(contract: Contract) -> bool:
    return contract.variant.head == "end2end-ort"


def _trt(contract: Contract) -> bool:
    return contract.variant.head == "end2end-trt"


def _for_tensorrt(contract: Contract) -> bool:
    return contract.variant.head in ("end2end-trt", "end2end-trt-nms") and not contract.quantised


def _size_varies(contract: Contract) -> bool:
    return contract.variant.end2end and contract.variant.dynamic_size


def _sizes_certified(contract: Contract) -> bool:
    return _certified(contract) and contract.variant.dynamic_size


def _batch_varies(contract: Contract) -> bool:
    return _certified(contract) and contract.variant.dynamic_batch


RUNS = ("structure.load", "nms.operator")
CHECKS: Tuple[Check, ...] = (
    Check(
        "nms.operator", MUST, "One suppression operator with all its inputs, under no control flow.", operator, _end2end
    ),
    Check(
        "nms.thresholds",
        MUST,
        "Thresholds, cap and class offset are the promised ones.",
        thresholds,
        _end2end,
        ("nms.operator",),
    ),
    Check(
        "nms.attributes", MUST, "The plugin's attributes by name, type and value.", attributes, _trt, ("nms.operator",)
    ),
    Check(
        "nms.class-offset",
        MUST,
        "No two classes of this head can meet in the suppression.",
        class_offset,
        _ort,
        ("nms.operator",),
    ),
    Check(
        "nms.baked", MUST, "No count of one image size is fixed in the tail.", baked, _size_varies, ("nms.operator",)
    ),
    Check(
        "nms.detections",
        MUST,
        "Detections follow from the model's predictions, on every kind of picture.",
        detections,
        _certified,
        RUNS,
    ),
    Check("nms.images", MUST, "The same on the pictures of --images.", photos, _certified, RUNS),
    Check("nms.sizes", MUST, "The same at every promised size.", sizes, _sizes_certified, RUNS),
    Check("nms.batches", MUST, "The same in batches, with different counts.", batches, _batch_varies, RUNS),
    Check("nms.repeat", MUST, "Same input, same detections; the input is not written to.", repeat, _end2end, RUNS),
    Check("nms.optimisation", MUST, "The same without graph optimisations.", optimisation, _certified, RUNS),
    Check(
        "nms.tail",
        MUST,
        "The tail alone, fed predictions that press on every number.",
        tail,
        _end2end,
        (*RUNS, "nms.class-offset"),
    ),
    Check(
        "nms.tensorrt",
        INFO,
        "A TensorRT engine built from the file gives the same detections.",
        tensorrt,
        _for_tensorrt,
        RUNS,
    ),
    Check("nms.deprecated", INFO, "The suppression is not deprecated.", deprecated, _trt, ("nms.operator",)),
)
