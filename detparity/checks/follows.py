"""One cause, one finding: which findings follow from another check's, and are shown in one line.

A finding follows only where that shows: the same excess on the same picture, the same shapes as declared, a grid of one size where
only other sizes fail, or the weights of another model. Its outcome remains what it is.
"""

from __future__ import annotations

import itertools
import math
from dataclasses import replace
from typing import Any, Mapping, Optional, Sequence, Tuple

from detparity.checks.baked_size import is_baked
from detparity.checks.context import Context
from detparity.checks.weights import deciding, model_problem
from detparity.core.case import Case
from detparity.core.contract import MUST
from detparity.core.findings import Finding

SAME = 0.02  # relative difference of two errors that are one
LIKE = 10.0  # factor between the errors of one cause on different pictures
# What an export of another model fails besides its weights.
OF_THE_MODEL = ("structure.outputs", "structure.axes", "structure.shapes", "structure.attributes", "structure.metadata")
OF_THE_SCRIPT = ("script.structure", "script.attributes", "script.metadata")
OF_A_LOSS = (
    "precision.unrounded",
    "precision.scales",
    "precision.calibration",
    "precision.resolution",
)  # what explains one in 8 bits
SHAPES = ("structure.shapes", "script.structure")


def fold(context: Context, check_id: str, findings: Tuple[Finding, ...]) -> Tuple[Finding, ...]:
    """The findings of a check, those that follow from another check's marked."""
    return tuple(
        replace(finding, follows=_cause(context, check_id, finding) or "") if finding.level == MUST else finding
        for finding in findings
    )


def _cause(context: Context, check_id: str, finding: Finding) -> Optional[str]:
    """The id of the check whose finding has the same cause."""
    group = check_id.split(".")[0]
    if group in ("parity", "nms") or check_id in (*OF_THE_MODEL, *OF_THE_SCRIPT):
        weights = "structure.weights" if context.contract.variant.onnx else "script.weights"
        if model_problem(context) and (check_id == deciding(context) or _fails(context, deciding(context))):
            return weights
    if check_id == "structure.opset":
        return (
            "structure.operators"
            if "version" not in finding.evidence and _fails(context, "structure.operators")
            else None
        )
    if check_id in ("precision.scores", "precision.budget"):
        earlier = OF_A_LOSS if check_id == "precision.budget" else OF_A_LOSS[-1:]
        return next((one for one in earlier if _fails(context, one)), None)
    if check_id == "structure.outputs":
        return _half_precision(context, finding)
    if check_id == "structure.axes":
        return _unpromised(context, finding)
    if check_id == "structure.shapes":
        return _declared(context, finding)
    if group in ("parity", "nms"):
        return _numbers(context, check_id, finding)
    return None


def _fails(context: Context, check_id: str) -> bool:
    """Whether a check that applies fails with a MUST."""
    check = context.checks.get(check_id)
    if check is None or not check.applies(context.contract):
        return False
    return any(finding.level == MUST for finding in context.outcome(check_id).findings)


def _fails_with(context: Context, check_id: str, keys: Sequence[str]) -> bool:
    """Whether a check fails with a MUST whose evidence has one of these keys."""
    if not _fails(context, check_id):
        return False
    found = [finding.evidence for finding in context.outcome(check_id).findings if finding.level == MUST]
    return any(key in evidence for key in keys for evidence in found)


def _half_precision(context: Context, finding: Finding) -> Optional[str]:
    """Outputs of float16, where the input is float16 as well: the file was converted."""
    halves = finding.evidence.get("types") == ["float16"] and context.form.dtype == "float16"
    return "structure.inputs" if halves and _fails(context, "structure.inputs") else None


def _unpromised(context: Context, finding: Finding) -> Optional[str]:
    """The axes of an output that is not promised under this name, or among more or fewer than promised."""
    promised, outputs = context.contract.outputs, context.onnx.graph.outputs
    own = finding.evidence.get("tensor") in {value.name for value in outputs}
    if not own or (finding.evidence.get("tensor") in {one.name for one in promised} and len(promised) == len(outputs)):
        return None
    return "structure.outputs" if _fails(context, "structure.outputs") else None


def _declared(context: Context, finding: Finding) -> Optional[str]:
    """Shapes that are those the file declares are wrong where the declared ones are."""
    if finding.evidence.get("as_declared"):
        return next((one for one in ("structure.outputs", "structure.axes") if _fails(context, one)), None)
    return None


def _numbers(context: Context, check_id: str, finding: Finding) -> Optional[str]:
    """The cause of a finding about what a run gives."""
    found, first = finding.evidence, deciding(context)
    if check_id != first and _at_other_sizes(context, finding):
        return "structure.baked-size" if context.contract.variant.onnx else "script.baked-size"
    if "refused" in found or "shapes" in found:
        key = "refused" if "refused" in found else "produced"
        known = next((one for one in SHAPES if _fails_with(context, one, (key,))), None)
        return known or ("structure.outputs" if "shapes" in found and _fails(context, "structure.outputs") else None)
    if check_id == "parity.map" and _fails_with(context, first, ("out_of_bounds", "kinds")):
        return first  # precision is worked out from the numbers that differ
    if check_id == first or not _applies(context, first) or not ("out_of_bounds" in found or "kinds" in found):
        return None
    return first if any(_same(one.evidence, found) for one in context.outcome(first).findings) else None


def _at_other_sizes(context: Context, finding: Finding) -> bool:
    """Whether a file that is right at its declared size fails at another, and holds what ties it to one."""
    case, first = finding.evidence.get("case"), deciding(context)
    elsewhere = isinstance(case, Case) and case.size != context.contract.size
    if not elsewhere or not context.contract.variant.dynamic_size or not _applies(context, first):
        return False
    return context.outcome(first).outcome == "passed" and is_baked(context)


def _applies(context: Context, check_id: str) -> bool:
    check = context.checks.get(check_id)
    return check is not None and check.applies(context.contract)


def _same(ours: Mapping[str, Any], theirs: Mapping[str, Any]) -> bool:
    """Whether two findings are of one excess: equal causes that were tried; or the same groups out of bounds, on one picture by the
    same error, on different ones by errors of one order of magnitude; or detections wrong in the same respects."""
    if ours.get("cause") and ours.get("cause") == theirs.get("cause"):
        return True
    if "kinds" in ours or "kinds" in theirs:
        return set(ours.get("kinds", ())) == set(theirs.get("kinds", ()))
    if "out_of_bounds" not in ours or not _same_groups(ours["out_of_bounds"], theirs["out_of_bounds"]):
        return False
    if ours["case"] == theirs["case"]:
        return ours["group"] == theirs["group"] and _within(ours["error"], theirs["error"], 1 + SAME)
    return _within(ours["floors"], theirs["floors"], LIKE)


def _same_groups(ours: Mapping[str, Sequence[int]], theirs: Mapping[str, Sequence[int]]) -> bool:
    """Whether the same groups are out of bounds, at strides of which one has no other than the other."""
    here, there = (set(itertools.chain(*one.values())) for one in (ours, theirs))
    return set(ours) == set(theirs) and (here <= there or there <= here)


def _within(one: float, other: float, factor: float) -> bool:
    return math.isfinite(one) and math.isfinite(other) and max(one, other) <= factor * min(one, other)
