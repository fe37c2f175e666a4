"""Whether one of our exporters makes its file at all. Its outcome is worked out where exports are made, before there is a file."""

from __future__ import annotations

from typing import Iterator, Optional, Tuple

from detparity.checks.context import Context
from detparity.core.contract import MUST
from detparity.core.errors import NotMade
from detparity.core.findings import BLOCKED, MADE, Check, Finding, Outcome


def made(_: Context) -> Iterator[Finding]:
    """A file that is judged was made."""
    return iter(())


def outcome(problem: Optional[NotMade]) -> Outcome:
    """The outcome of `export.made`; problem: why the exporter did not make the file."""
    if problem is None:
        return Outcome(MADE, MUST, "passed")
    if problem.missing:
        return Outcome(MADE, MUST, "skipped", reason=str(problem))
    finding = Finding("cannot be made: the exporter raises.", notes=(str(problem),), evidence={"error": str(problem)})
    return Outcome(MADE, MUST, "failed", findings=(finding,))


def blocked(check: Check, problem: NotMade) -> Outcome:
    """The outcome of any other check on a file that was not made."""
    return Outcome(check.id, check.level, "skipped", reason=str(problem) if problem.missing else f"{BLOCKED}{MADE}")


CHECKS: Tuple[Check, ...] = (
    Check(MADE, MUST, "The exporter makes its file (the suite's own exporters).", made, lambda contract: False),
)
