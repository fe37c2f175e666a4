"""Where numbers go wrong, added to the first failure that shows it."""

from __future__ import annotations

from dataclasses import replace
from typing import Any, Dict, Tuple

from detparity.checks.locating.causes import cause_of
from detparity.checks.locating.run import CHECKS, locate
from detparity.checks.locating.search import MOST_FAULTS
from detparity.checks.locating.text import because, record, where
from detparity.checks.session import AnyContext, Session
from detparity.core.case import Case
from detparity.core.contract import MUST
from detparity.core.errors import clipped
from detparity.core.findings import CannotRun, Finding, Outcome

DONE = "located"


def with_fault(session: Session, context: AnyContext, outcome: Outcome) -> Outcome:
    """The outcome of a check; the first of a file in which numbers differ says where they begin to."""
    if outcome.outcome != "failed" or outcome.check not in CHECKS or DONE in context.notes:
        return outcome
    for index, finding in enumerate(outcome.findings):
        case = finding.evidence.get("case")
        if finding.level == MUST and isinstance(case, Case) and not finding.follows and _numbers(finding):
            context.notes[DONE] = True
            found = list(outcome.findings)
            try:
                found[index] = _with_fault(session, context, finding, case)
            except (
                Exception
            ) as error:  # a limit of this process or of an engine's, or a bug: the finding is reported without it
                text = clipped(f"{type(error).__name__}: {error}", 160)
                note = f"Where it begins is not known: looking for it ended ({text})."
                found[index] = replace(finding, notes=(*finding.notes, note))
            return replace(outcome, findings=tuple(found))
    return outcome


def _numbers(finding: Finding) -> bool:
    """Whether a finding is about numbers that differ, and not about shapes or a run that fails."""
    return not {"shapes", "refused", "cause"} & set(finding.evidence)


def _with_fault(session: Session, context: AnyContext, finding: Finding, case: Case) -> Finding:
    try:
        answer = locate(session, context, case)
    except CannotRun:
        return finding
    faults = answer.located.faults
    if not faults or len(faults) > MOST_FAULTS:
        return finding
    shown: Tuple[str, ...] = tuple(where(fault, answer.trace) for fault in faults)
    more = f"; then in {', '.join(shown[1:])}" if len(shown) > 1 else ""
    located: Dict[str, Any] = {key: value for key, value in record(faults[0], answer).items() if key != "case"}
    cause = cause_of(answer.search, faults[0]) if len(faults) == 1 else None
    fix = finding.fix if cause is None else cause.fix
    if cause is not None:
        located.update(cause=cause.sentence, kind_of_cause=cause.kind, left=cause.left)
    note = f"It begins in {shown[0]}{more}: given the model's own numbers there, the result is another."
    notes = (*finding.notes, note, *([because(cause, faults[0])] if cause is not None else []))
    return replace(finding, notes=notes, fix=fix, evidence={**finding.evidence, "located": located})
