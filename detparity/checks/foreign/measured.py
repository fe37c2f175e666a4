"""What a report states of a file besides its findings: noise and error by group, the layout, and where a verdict has low power."""

from __future__ import annotations

from typing import Any, Dict, List, Mapping

import numpy as np

from detparity.checks.foreign.context import ForeignContext
from detparity.checks.foreign.parity import DECLARED
from detparity.checks.foreign.truth import CaseTruth, ImageTruth, paired, paired_wider
from detparity.core.case import Case
from detparity.core.layout import BOX, PIXELS, PROBABILITY, SCORE, Field, describe
from detparity.core.precision import HALVES
from detparity.core.text import number
from detparity.core.vocabulary import Arrays
from detparity.models.reference import CannotRunReference
from detparity.oracle.noise_floor import limit
from detparity.oracle.output_floor import Group, groups_of, is_probability, measure, tables_of

ISLANDS = 3  # parts that a report names, those that gain most
SHOWN = 12  # groups of a report, the worst ones
DEAD = 1e-9  # spread of a column over its largest value, under which all its rows are the same
LOWEST_SCORE = 1e-3  # the best score of every picture is under it: nothing is detected
SATURATED = 1e-6  # distance of every score from 0 or 1
SPREAD = 0.1  # of a group's own spread: float32 itself, choosing otherwise inside, is as far off as what is looked for
BLURRED_PIXELS, BLURRED_SCORE = 1.0, 0.01  # floors above these hide what a user would see


def measured(context: ForeignContext) -> Dict[str, Any]:
    """Entries of a report about the first declared case."""
    found: Dict[str, Any] = {"layout": describe(context.layout), "noise": _noise(context)}
    low = low_power(context)
    if low:
        found["low_power"] = low
    gained = [] if context.quick else islands(context)
    return {**found, "islands": gained} if gained else found


def _noise(context: ForeignContext) -> Dict[str, Dict[str, float]]:
    case = context.declared
    truth = context.chosen_truth(case)
    outputs = context.predict(case)
    one = truth.images[0]
    tables = tables_of(context.layout, {name: outputs[name] for name in truth.outputs}, 0)
    floor = one.floor()
    mine, yours, _ = paired(one.tables, tables, context.layout, floor)
    stats = measure(mine, yours, one.groups)
    rows: Dict[str, Dict[str, float]] = {}
    for group, error in stats.items():
        key = f"{group.output} {group.field.name}"
        if not group.of(mine).size:  # nothing is selected on this picture
            continue
        row = {
            "stride": float(group.stride),
            "floor": floor[group].rms,
            "error": error.rms,
            "floors": error.rms / floor[group].rms,
            "floors_max": error.max / floor[group].max,
            "limit": limit("rms", group.of(mine).size),
        }
        if row["floors"] >= rows.get(key, {}).get("floors", -1.0):
            rows[key] = row
    worst = sorted(rows, key=lambda key: -rows[key]["floors"])[:SHOWN]
    return {key: rows[key] for key in rows if key in worst}


def islands(context: ForeignContext) -> List[Dict[str, Any]]:
    """Which parts of a model would gain by float32, of a file of half precision: what is left in it, and the errors of one scene by
    output and field. Nothing where the model cannot be asked, or refuses."""
    reference: Any = context.oracle.reference
    precision = context.contract.precision
    if precision not in HALVES or not hasattr(reference, "islands"):
        return []
    case = Case(context.contract.size, (("scene", 0), *context.declared.pictures[1:]))
    truth = context.truth(case).images[0]
    with context.clock.running():
        try:
            found = reference.islands(precision, context.oracle.taken(context.given(case)))
        except CannotRunReference:
            return []
    rows = [(left, _errors(context, truth, context.named(outputs))) for left, outputs in found]
    first, *others = rows
    best = sorted(others, key=lambda one: -max(first[1][key] / max(one[1][key], 1e-30) for key in first[1]))[:ISLANDS]
    return [{"left": left, "errors": errors} for left, errors in (first, *best)]


def _errors(context: ForeignContext, truth: ImageTruth, outputs: Arrays) -> Dict[str, float]:
    """Root mean square by output and field."""
    mine, yours, _ = paired_wider(truth.tables, tables_of(context.layout, outputs, 0), context.layout)
    squares: Dict[str, List[np.ndarray]] = {}
    for group in groups_of(context.layout, mine, context.contract.size):
        squares.setdefault(_name(group), []).append(((group.of(yours) - group.of(mine)) ** 2).ravel())
    return {key: float(np.sqrt(np.concatenate(parts).mean())) for key, parts in squares.items() if sum(map(len, parts))}


def low_power(context: ForeignContext) -> List[str]:
    """Why a verdict of `conforms` would mean little here: nothing detected, saturated scores, dead outputs, noise as large as what
    would be looked for."""
    cases = [Case(context.contract.size, ((kind, 0), *context.declared.pictures[1:])) for kind in DECLARED]
    truths = [context.chosen_truth(case) for case in cases]
    found = [
        *_fewer_outputs(context),
        *_selected_nothing(context, truths),
        *_scores(truths),
        *_dead(truths),
        *_blurred(truths, context.oracle.precision),
    ]
    return list(dict.fromkeys(found))


def _fewer_outputs(context: ForeignContext) -> List[str]:
    left = context.uncompared
    return [
        f"{left} output{'s' * (left > 1)} of the model, beside those shown, {'were' if left > 1 else 'was'} not compared"
    ] * (left > 0)


def _selected_nothing(context: ForeignContext, truths: List[CaseTruth]) -> List[str]:
    if not context.layout.selected:
        return []
    counts = [len(next(iter(image.tables.values()), ())) for truth in truths for image in truth.images]
    return [] if any(counts) else ["nothing is detected on any picture"]


def _scores(truths: List[CaseTruth]) -> List[str]:
    values = [
        group.of(image.tables).ravel()
        for truth in truths
        for image in truth.images
        for group in image.groups
        if group.field.role == SCORE and group.field.unit == PROBABILITY
    ]
    if not values:
        return []
    scores = np.concatenate(values)
    if not scores.size:
        return []
    if float(scores.max()) < LOWEST_SCORE:
        return [f"no score exceeds {number(float(scores.max()))}: nothing is detected"]
    if bool(np.all(np.minimum(scores, 1 - scores) < SATURATED)):
        return ["every score is 0 or 1: a difference of logits cannot show"]
    return []


def _dead(truths: List[CaseTruth]) -> List[str]:
    """Fields whose rows all hold one number on every picture."""
    spread: Dict[str, float] = {}
    for truth in truths:
        for image in truth.images:
            for group in image.groups:
                spread[_name(group)] = max(spread.get(_name(group), 0.0), _spread(group, image.tables))
    dead = [name for name, value in spread.items() if value <= DEAD]
    every = len(spread) and len(dead) == len(spread)
    if every:
        return ["all rows are the same"]
    return (
        [f"dead output: {', '.join(dead[:4])}{f' and {len(dead) - 4} more' if len(dead) > 4 else ''}"] if dead else []
    )


def _name(group: Group) -> str:
    return f"{group.output} {group.field.name}"


def _spread(group: Group, tables: Mapping[str, np.ndarray]) -> float:
    values = group.of(tables)
    if len(values) < 2 or bool(np.all(values == np.rint(values))):  # whole numbers count images or classes
        return 1.0
    return float(np.ptp(values, axis=0).max(initial=0.0)) / max(float(np.abs(values).max(initial=0.0)), 1e-30)


def _blurred(truths: List[CaseTruth], precision: str) -> List[str]:
    found = []
    for truth in truths:
        for group, stats in truth.images[0].floor().items():
            if not np.isfinite(stats.max):
                found.append(f"{precision} itself overflows in {_name(group)}")
    for truth in truths[:1]:
        for group, stats in truth.images[0].floor().items():
            limit = _visible(group.field, group.of(truth.images[0].tables))
            if limit and stats.rms > limit:
                found.append(f"the noise floor of {_name(group)} is {number(stats.rms)} {group.field.unit}")
            elif not limit:
                share = stats.rms / max(_deviation(group, truth.images[0].tables), 1e-300)
                if SPREAD < share < 1e6:  # beyond, the numbers are all one
                    found.append(f"the noise floor of {_name(group)} is {number(share)} of its spread")
    return list(dict.fromkeys(found))[:2]


def _deviation(group: Group, tables: Mapping[str, np.ndarray]) -> float:
    values = group.of(tables)
    values = values[np.isfinite(values)]
    return float(np.std(values)) if values.size else 0.0


def _visible(field: Field, values: np.ndarray) -> float:
    """The error of this field that a user would see."""
    if field.unit == PIXELS and field.role == BOX:
        return BLURRED_PIXELS
    return BLURRED_SCORE if field.role == SCORE and is_probability(field, values) else 0.0
