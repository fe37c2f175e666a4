"""From outcomes to records, from records to verdicts, from verdicts to exit codes."""

from __future__ import annotations

from typing import Any, Dict, Mapping, Optional, Sequence

from detparity.core.contract import MUST
from detparity.core.findings import MADE, Outcome, worst_level

CONSISTENT = "consistent"  # nothing is wrong, and no model was compared
EXIT = {"conforms": 0, CONSISTENT: 0, "violates": 1, "unusable": 2, "incomplete": 3}


NOT_MADE = "not made"  # by an exporter this version does not have: no verdict, and none is missing


ARTIFACT_VERDICTS = (*EXIT, NOT_MADE)


def outcome_record(outcome: Outcome, texts: Sequence[str], repeat: str = "") -> Dict[str, Any]:
    """One entry of `checks[]`; texts: the full rendered text of each finding; repeat: the command that runs the check again."""
    record: Dict[str, Any] = {
        "id": outcome.check,
        "level": worst_level(outcome.findings, outcome.level),
        "outcome": outcome.outcome,
        "reason": outcome.reason,
        "incomplete": outcome.incomplete,
        "seconds": round(outcome.seconds, 4),
        "engine_seconds": round(outcome.engine_seconds, 4),
        "findings": [
            {
                "level": finding.level,
                "message": finding.message,
                "evidence": _plain(finding.evidence),
                "text": text,
                "rows": [list(row) for row in finding.rows],
                "headed": finding.headed,
                "notes": list(finding.notes),
                **({"fix": finding.fix} if finding.fix is not None else {}),
                **({"repeat": repeat} if repeat else {}),
                **({"follows": finding.follows} if finding.follows else {}),
            }
            for finding, text in zip(outcome.findings, texts)
        ],
    }
    return {**record, "known_failure": dict(outcome.known_failure)} if outcome.known_failure else record


def _plain(value: Any) -> Any:
    """Evidence as JSON can hold it; what is not finite becomes text."""
    if isinstance(value, Mapping):
        return {str(key): _plain(item) for key, item in value.items()}
    if isinstance(value, (list, tuple)):
        return [_plain(item) for item in value]
    if isinstance(value, float) and (value != value or value in (float("inf"), float("-inf"))):
        return str(value)
    return value if isinstance(value, (str, int, float, bool, type(None))) else str(value)


def artifact_verdict(checks: Sequence[Mapping[str, Any]], strict: bool) -> str:
    """`violates`, `incomplete`, `conforms` or `not made`, from the entries of `checks[]`."""
    if any(check["id"] == MADE and check["outcome"] == "skipped" for check in checks):
        return NOT_MADE
    decisive = {MUST, "SHOULD"} if strict else {MUST}
    judged = [check for check in checks if check["outcome"] != "known failure"]
    if any(finding["level"] in decisive for check in judged for finding in check["findings"]):
        return "violates"
    unfinished = any(c["outcome"] == "error" or (c["outcome"] == "skipped" and c["incomplete"]) for c in checks)
    return "incomplete" if unfinished or not checks else "conforms"


def worded(entry: Mapping[str, Any], strict: bool) -> str:
    """The verdict of an artifact's entry: that of its checks, `incomplete` where it has low power in a strict run, and `consistent`
    where it conforms and no model was compared."""
    found = artifact_verdict(entry["checks"], strict)
    if found != "conforms":
        return found
    if strict and entry.get("low_power"):
        return "incomplete"
    return CONSISTENT if entry.get("model") is False else found


def overall(verdicts: Sequence[str]) -> str:
    """The worst verdict of several: unusable, then violates, then incomplete; incomplete where there is none."""
    for worst in ("unusable", "violates", "incomplete"):
        if worst in verdicts:
            return worst
    return next((good for good in ("conforms", CONSISTENT) if good in verdicts), "incomplete")


def exit_code(verdict: Optional[str]) -> int:
    return EXIT[verdict or "incomplete"]
