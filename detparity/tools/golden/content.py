"""What a golden of each kind holds of one artifact, and whether two answers differ by more than the noise of this model."""

from __future__ import annotations

from typing import Any, Dict, List, Mapping, Sequence, Tuple

import numpy as np

from detparity.checks.context import Context
from detparity.checks.inputs import pictures
from detparity.checks.mean_ap import detections as detected
from detparity.checks.mean_ap import outputs_problem, suppressed
from detparity.checks.nms import rule_of, tolerance_of
from detparity.checks.parity import shape_problem
from detparity.core.case import Case
from detparity.core.contract import NmsPromise
from detparity.core.errors import EngineError
from detparity.core.precision import INT8
from detparity.core.vocabulary import Arrays, Picture, Variant, parse_variant
from detparity.oracle.average_precision import Detected
from detparity.oracle.nms import NmsRule, end2end_ort_rule
from detparity.oracle.nms_case import Tolerance
from detparity.oracle.nms_certificate import certify_rows
from detparity.oracle.noise_floor import GROUPS, Truth, count_of, limit
from detparity.tools.diff.graph_summary import graph_facts
from detparity.tools.export_cache import precision, promised
from detparity.tools.golden.compare import BOTH, UNCHANGED, Changed, compare

PICTURE: Picture = ("scene", 1)
SCENES: Tuple[Picture, ...] = (("scene", 0), ("scene", 1), ("scene", 2))
PROBES = 2  # of each unit group on each level
DECIMALS = {"box": 3, "score": 6}


def kinds_of(variant: Variant) -> Tuple[str, ...]:
    """The kinds of golden a file of this variant has: facts of its graph where it is ONNX, numbers where it gives predictions,
    detections where it gives boxes."""
    there = {"graph": variant.onnx, "values": not variant.end2end, "detections": variant.head != "raw"}
    return tuple(kind for kind, has in there.items() if has)


def asked_goldens(exporters: Sequence[str]) -> List[Tuple[str, str]]:
    """The exporter and the kind of every golden that the kit's own suite needs. Of 8 bits there is none: their scales are
    those of the runtime and their numbers those of the processor, up to 10 px apart (docs/golden.md)."""
    recorded = [name for name in exporters if precision(name) != INT8]
    return [(name, kind) for name in recorded for kind in kinds_of(parse_variant(promised(name)))]


def content(context: Context, kind: str) -> Dict[str, Any]:
    """Record one kind of golden. Raises EngineError where the artifact does not run."""
    return {"graph": _graph, "values": _values, "detections": detections}[kind](context)


def changed(context: Context, kind: str, old: Mapping[str, Any], new: Mapping[str, Any], exact: bool) -> Changed:
    """What changed since the golden. Two sets of detections that could both be this model's answer, up to near-ties, are the same."""
    found = compare(kind, old, new, exact)
    settled = not found.words or kind != "detections" or not _same_settings(old, new)
    return found if settled or not all(_certified(context, one) for one in (old, new)) else UNCHANGED


def _graph(context: Context) -> Dict[str, Any]:
    return graph_facts(context.onnx)


# --- values ---------------------------------------------------------------------------------------------------------


def _values(context: Context) -> Dict[str, Any]:
    contract = context.contract
    case = Case(contract.size, pictures(contract.batch, *PICTURE))
    outputs = context.run(context.batch(case))
    truth = context.truth(PICTURE, case.size)
    promised = shape_problem(context, case, outputs) is None
    return {
        "picture": list(PICTURE),
        "size": list(case.size),
        "batch": contract.batch,
        "outputs": [
            {
                "name": name,
                "dtype": str(array.dtype),
                "shape": list(array.shape),
                "range": [_number(array.min()), _number(array.max())] if array.size else [],
                "probes": _probes(context, truth, outputs, index) if promised else [],
            }
            for index, (name, array) in enumerate(outputs.items())
        ],
        "tolerance": {_title(context, *key): _allowed(truth, key) for key in truth.floor},
    }


def _title(context: Context, level: int, group: str) -> str:
    return f"{group} stride {context.facts.strides[level]}" + (f" level {level}" if _doubled(context) else "")


def _doubled(context: Context) -> bool:
    """Members of an ensemble have levels of one stride."""
    return len(set(context.facts.strides)) < len(context.facts.strides)


def _allowed(truth: Truth, key: Tuple[int, str]) -> float:
    allowed = BOTH * limit("max", count_of(truth, key)) * truth.floor[key].max
    return float(f"{allowed:.3g}")


def _number(value: Any) -> Any:
    """Nine digits distinguish any two float32; JSON has no NaN and no infinity, so these are strings."""
    return float(f"{float(value):.9g}") if np.isfinite(value) else str(float(value))


def _probes(context: Context, truth: Truth, outputs: Arrays, index: int) -> List[List[Any]]:
    """[indices, unit group, value] in the first image: the same indices in every file of this shape, all groups on all levels."""
    array = list(outputs.values())[index]
    levels = range(len(truth.levels)) if truth.head == "grid" else (index,)
    offsets = np.cumsum([0, *context.facts.level_rows(truth.size)])
    found: List[List[Any]] = []
    for level in levels:
        rows, fields = truth.levels[level].shape
        rng = np.random.default_rng([rows, fields, level])
        for group, columns in GROUPS.items():
            width = len(range(fields)[columns])
            for _ in range(PROBES):
                row, column = int(rng.integers(rows)), range(fields)[columns][int(rng.integers(width))]
                inner = (offsets[level] + row,) if truth.head == "grid" else np.unravel_index(row, array.shape[1:-1])
                position = (0, *(int(k) for k in inner), int(column))
                found.append([", ".join(map(str, position)), _title(context, level, group), _number(array[position])])
    return found


# --- detections -----------------------------------------------------------------------------------------------------


def _rule(context: Context) -> NmsRule:
    """The suppression of the file or, where it has none, the one its predictions are read by."""
    if context.contract.variant.end2end:
        return rule_of(context.contract)
    usual = NmsPromise()
    return end2end_ort_rule(usual.iou_threshold, usual.score_threshold, usual.cap, class_agnostic=False)


def detections(context: Context) -> Dict[str, Any]:
    """Detections of the file on the fixed scenes: [picture, class, score, x1, y1, x2, y2], in the order given."""
    rule, rows = _rule(context), []
    for number, picture in enumerate(SCENES):
        rows += _rows(context, number, _seen(context, picture, rule))
    return _detections_content(context, rule, rows)


def of_the_model(context: Context) -> Dict[str, Any]:
    """What the model itself detects there, from its float64 predictions."""
    rule, rows = _rule(context), []
    for number, picture in enumerate(SCENES):
        rows += _rows(context, number, suppressed(_truth(context, picture), rule))
    return _detections_content(context, rule, rows)


def _detections_content(context: Context, rule: NmsRule, rows: List[List[Any]]) -> Dict[str, Any]:
    bound = _tolerance(context, SCENES)
    return {
        "pictures": [list(picture) for picture in SCENES],
        "size": list(context.contract.size),
        "rule": {"iou": rule.iou_threshold, "score": rule.score_threshold, "cap": rule.cap},
        "detections": rows,
        "tolerance": {
            "box": float(f"{BOTH * np.max(bound.box):.3g}"),
            "score": float(f"{BOTH * bound.score:.3g}"),
        },
    }


def _rows(context: Context, picture: int, found: Detected) -> List[List[Any]]:
    return [
        [
            picture,
            _class_name(context, int(label)),
            round(float(score), DECIMALS["score"]),
            *(round(float(value), DECIMALS["box"]) for value in box),
        ]
        for box, score, label in zip(found.boxes, found.scores, found.classes)
    ]


def _class_name(context: Context, index: int) -> str:
    names = context.facts.names
    return names[index] if 0 <= index < len(names) else f"class {index}"


def _seen(context: Context, picture: Picture, rule: NmsRule) -> Detected:
    """What the file detects in the first image of a batch of this picture."""
    case = Case(context.contract.size, (picture,) * context.contract.batch)
    outputs = context.run(context.batch(case))
    wrong = outputs_problem(context, case, outputs)
    if wrong:
        raise EngineError(f"{wrong.message} No detections can be read from it")
    return detected(context, case, outputs, rule)[0]


def _truth(context: Context, picture: Picture) -> np.ndarray:
    return np.concatenate(context.oracle.truth(picture, context.contract.size, "grid").levels)


def _tolerance(context: Context, seen: Sequence[Picture]) -> Tolerance:
    truths = [context.oracle.truth(picture, context.contract.size, "grid") for picture in seen]
    return tolerance_of(truths, context.contract)


def _same_settings(old: Mapping[str, Any], new: Mapping[str, Any]) -> bool:
    return all(old[key] == new[key] for key in ("pictures", "size", "rule"))


def _certified(context: Context, recorded: Mapping[str, Any]) -> bool:
    """Whether these detections could be the greedy answer to this model's candidates, each moved within the noise."""
    rule, names = _rule(context), {name: index for index, name in enumerate(context.facts.names)}
    for number, picture in enumerate(SCENES):
        seen = [one for one in recorded["detections"] if one[0] == number]
        if any(one[1] not in names for one in seen):
            return False
        rows = np.array([[0, *one[3:], names[one[1]], one[2]] for one in seen], np.float64).reshape(-1, 7)
        noise = _tolerance(context, (picture,))
        rounding = [0.5 * 10.0 ** -DECIMALS[key] for key in ("box", "score")]
        bound = Tolerance(noise.box + rounding[0], noise.score + rounding[1], noise.iou_slack)
        if not certify_rows(rows, _truth(context, picture)[None], rule, bound).accepted:
            return False
    return True
