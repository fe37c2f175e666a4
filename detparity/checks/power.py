"""What a verdict would have seen, and what not: the smallest error in each group of numbers that reaches a limit, and blind spots.

All of it follows from floors, limits and what was run for the checks, but for runs of the model with one of its weights changed.
"""

from __future__ import annotations

from typing import Any, Dict, List, Mapping, Tuple

import numpy as np

from detparity.checks import NOT_QUICK
from detparity.checks.context import Context
from detparity.checks.foreign.context import ForeignContext
from detparity.checks.foreign.layers import Layers, Progress, smallest_by_weight
from detparity.checks.foreign.parity import DECLARED
from detparity.checks.inputs import reported_case
from detparity.checks.nms import tolerance_of
from detparity.core.budget import ABOUT
from detparity.core.case import Case, called
from detparity.core.layout import CLASS
from detparity.core.text import listed
from detparity.engines.power import scores_of, smallest_detected, smallest_seen
from detparity.oracle.noise_floor import UNITS, Truth, count_of, limit

SHOWS = ("scene", 1)  # a picture with detections, where the model has learned scenes; nms.detections judges it as well
FEW = 3  # weights of the model that are changed for a report, none where an image is large
GROWS = 3.5  # times that the floor of two runs may grow with the others (docs/performance.md has what was measured)
NOT_CHANGED = "which error in a weight of the model shows: images of this size take long (`detparity power`)"
SHOWN = 12  # groups of a report, those whose smallest error is largest beside their numbers
Seen = Dict[str, Dict[str, Any]]


def of_home(context: Context, detector: Any, most: int = 0) -> Dict[str, Any]:
    """Entries of a report, of a file of the home family whose numbers or detections were right. most: weights that are changed, 0 for
    as many as a report has."""
    most = most or (0 if _is_large(context) else FEW)
    blind = _blind(context) if most else [NOT_CHANGED, *_blind(context)]
    if context.contract.nms is None:
        shown = (reported_case(context).pictures[0], context.contract.size)
        found = smallest_seen(detector, context.oracle, context.contract.variant.head, shown, most) if most else {}
        power = {"power": {name: _grown(context, error) for name, error in found.items()}} if found else {}
        return {**power, "sees": _predictions(context), "blind_spots": blind}
    detected, power = _detections(context, detector, most)
    return {**power, "sees": detected, "blind_spots": [*_home_blind(context), *blind]}


def _is_large(context: Context) -> bool:
    return context.oracle.is_large(context.contract.size)


def _grown(context: Context, error: float) -> float:
    """An error that reaches a limit in floors, where a file that reaches it is judged by the floor of all runs."""
    return GROWS * error if _is_large(context) else error


def of_foreign(
    context: ForeignContext, most: int = 0, progress: Progress = lambda number, count: None
) -> Dict[str, Any]:
    """The same of a file of any detector, on its first declared case. most: weights that are changed; progress: see
    `layers.smallest_by_weight`."""
    found = smallest_by_weight(context, most, progress) if most else Layers({}, 0)
    power = {"power": dict(found.seen), "power_of": found.count} if found.seen else {}
    return {
        **power,
        "sees": _groups(context),
        "blind_spots": [*_foreign_blind(context), *found.blind, *_blind(context)],
    }


def of_budget(context: Any, found: Mapping[str, Any]) -> Dict[str, Any]:
    """The same of a file of 8 bits: a loss over its budget is seen, and no smaller one."""
    seen = {
        ABOUT[name]: {"smallest": row["budget"], "unit": ""} for name, row in found["losses"].items() if name in ABOUT
    }
    plain = context.outcomes.get("precision.unrounded")
    what = "a range or a step of 8 bits" if plain is not None and plain.outcome == "passed" else "an error in a weight"
    few = [f"{what} that moves no more detections than the budget allows ({found['pictures']} pictures)"]
    return {"sees": seen, "blind_spots": [*few, *_blind(context)]}


def _predictions(context: Context) -> Seen:
    """The smallest root mean square error of a group that violates, on the level where that is largest."""
    case = reported_case(context)
    truth = context.reported(case.pictures[0], case.size)
    found: Seen = {}
    for (level, group), floor in truth.floor.items():
        smallest = _grown(context, floor.rms * limit("rms", count_of(truth, (level, group))))
        if smallest > found.get(group, {"smallest": -1.0})["smallest"]:
            found[group] = {"smallest": smallest, "unit": UNITS[truth.head][group]}
    return found


def _detections(context: Context, detector: Any, most: int) -> Tuple[Seen, Dict[str, Any]]:
    """How far a detection may be from its candidate, and which error in a weight moves one further."""
    size = context.contract.size
    truth = context.truth(SHOWS, size)
    allowed = tolerance_of([truth], context.contract)
    boxes = np.asarray(allowed.box)[0] + allowed.iou_slack
    seen: Seen = {
        "box": {"smallest": float(boxes.max()), "unit": "px"},
        "score": {"smallest": allowed.score, "unit": "probability"},
    }
    above = np.flatnonzero(_scores(truth) > _threshold(context))
    if not (len(above) and most):
        return seen, {}
    rows = np.concatenate(truth.levels)[above]
    power = smallest_detected(detector, (SHOWS, size), rows, (above, boxes[above], allowed.score), most)
    return seen, {"power": power}


def _scores(truth: Truth) -> np.ndarray:
    """The best score of every candidate."""
    return scores_of(np.concatenate(truth.levels)).max(1)


def _threshold(context: Context) -> float:
    promise = context.contract.nms
    assert promise is not None
    return promise.score_threshold


def _home_blind(context: Context) -> List[str]:
    """Candidates that cannot come out, and classes that nothing was of."""
    truth = context.truth(SHOWS, context.contract.size)
    above = _scores(truth) > _threshold(context)
    under = f"{int((~above).sum())} of {len(above)} candidates in {called(SHOWS)}, which score under {_threshold(context):g}"
    found = [f"{under}: their numbers show in structure.weights and nms.tail alone"]
    classes = np.concatenate(truth.levels)[above, 5:].argmax(1)
    missing = sorted(set(range(context.facts.classes)) - set(classes.tolist()))
    names = [context.facts.names[k] for k in missing]
    return found + ([f"classes that {called(SHOWS)} shows nothing of: {listed(names)}"] if names else [])


def _groups(context: ForeignContext) -> Seen:
    """The smallest root mean square error of each group that violates, in its unit and in parts of its numbers' spread."""
    one = context.chosen_truth(context.declared).images[0]
    found: Seen = {}
    for group, floor in one.floor().items():
        values = group.of(one.tables)
        finite = values[np.isfinite(values)]
        if not finite.size or not np.isfinite(floor.rms):
            continue
        smallest = floor.rms * limit("rms", values.size)
        row = {"smallest": smallest, "unit": group.field.unit}
        spread = float(np.std(finite))
        if spread > 0:
            row["of its spread"] = smallest / spread
        key = f"{group.output} {group.field.name}"
        if smallest > found.get(key, {"smallest": -1.0})["smallest"]:
            found[key] = row
    worst = sorted(found, key=lambda key: -found[key].get("of its spread", 0.0))[:SHOWN]
    return {key: found[key] for key in found if key in worst}


def _foreign_blind(context: ForeignContext) -> List[str]:
    found = []
    if context.layout.selected:
        found.append("candidates that are not selected: what is wrong with them alone changes no row that comes out")
        found += _undetected(context)
    if context.uncompared:
        found.append(f"{context.uncompared} outputs of the model that the file has not")
    if context.uncovered:
        found.append(f"which near ties these decide: {listed(context.uncovered, 3)}")
    if context.hidden:
        found.append("what the file chooses inside: the copy that shows it does not run")
    if context.artifact.kind == "onnx" and not context.contract.promises.source:
        found.append("names, axes and opset: it is not known what its exporter was asked for")
    if context.contract.promises.others:
        found.append("what it is given beside the image: as in the example of its export, and nothing else")
    return found


def _undetected(context: ForeignContext) -> List[str]:
    """Classes that no row of the declared pictures is of, where the model's names are known."""
    names = context.oracle.reference.facts.names
    seen = set()
    for kind in DECLARED:
        case = Case(context.contract.size, ((kind, 0), *context.declared.pictures[1:]))
        for image in context.chosen_truth(case).images:
            for group in image.groups:
                if group.field.role == CLASS:
                    seen |= set(np.rint(group.of(image.tables)).astype(int).ravel().tolist())
    left = len(names) - len(seen)
    return [f"{left} of {len(names)} classes, which no picture shows"] if names and seen and left > 0 else []


def _blind(context: Any) -> List[str]:
    """What is the same of every file."""
    found = []
    if context.quick:
        found.append(f"what only {listed(NOT_QUICK)} and further pictures see: this was a quick run")
    if context.contract.precision != "float32" and context.contract.precision != "int8":
        found.append(f"errors under the rounding of {context.contract.precision}")
    if not context.photos:
        found.append("your own pictures: none were given (--images)")
    return found
