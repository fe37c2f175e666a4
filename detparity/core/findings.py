"""What a check returns: findings, and the outcome of a check that ran, was skipped, or broke."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any, Callable, Iterable, Mapping, Optional, Tuple

from detparity.core.contract import LEVELS, MUST
from detparity.core.errors import EngineDied

Row = Tuple[str, ...]
MADE = "export.made"  # the check that an exporter makes its file; what it skips, the version has no exporter for
BLOCKED = "blocked by "  # begins the reason of a check that was not run since another one, whose id follows, failed


@dataclass(frozen=True)
class Finding:
    """One thing wrong. message: one sentence, without the subject; rows: facts in columns, the first row their headings
    where `headed`; notes: what would have passed, what is ruled out, where; evidence: the same as data, for the report;
    follows: the check whose finding has the same cause, which is then shown in full and this in one line; fix: what to do, where
    more is known than the check's guide states (core/guides.py); empty where nothing need be done."""

    message: str
    rows: Tuple[Row, ...] = ()
    headed: bool = False
    notes: Tuple[str, ...] = ()
    evidence: Mapping[str, Any] = field(default_factory=dict)
    level: str = MUST
    follows: str = ""
    fix: Optional[str] = None


def of_the_end(died: EngineDied) -> Finding:
    """The finding of a file that ended its process, with what the process printed last."""
    notes = ("It printed last:", *died.printed) if died.printed else ()
    evidence = {"printed": died.printed} if died.printed else {}
    fix = "Do not deploy it; where it happens again, report it with the file to the project of the engine."
    return Finding(f"{died}.", notes=notes, evidence=evidence, fix=fix)


def refused(error: object, at: object = None) -> Finding:
    """The finding of an engine that does not run a file, at a case, or at all."""
    text, where = str(error)[:600], "" if at is None else f" at {at}"
    return Finding(
        f"does not run{where}.", notes=(text,), evidence={**({} if at is None else {"case": at}), "refused": text}
    )


@dataclass(frozen=True)
class Check:
    """A named check. run: takes a Context, returns findings; applies: whether the contract requires it; needs: checks without
    which it cannot run; level: the worst level its findings have; about: one line for the reference page."""

    id: str
    level: str
    about: str
    run: Callable[[Any], Iterable[Finding]]
    applies: Callable[[Any], bool]
    needs: Tuple[str, ...] = ()


@dataclass(frozen=True)
class Outcome:
    """A check's result. outcome: passed, failed, known failure, skipped or error; reason: why it was skipped, broke or is a known
    failure; incomplete: whether a skip hides a promise; known_failure: the entry that explains it, as in the report."""

    check: str
    level: str
    outcome: str
    findings: Tuple[Finding, ...] = ()
    reason: Optional[str] = None
    incomplete: bool = False
    seconds: float = 0.0
    engine_seconds: float = 0.0
    known_failure: Optional[Mapping[str, str]] = None


class CannotRun(Exception):
    """Raised inside a check that cannot run here; the text says what is missing. hides: whether a promise is left unjudged."""

    def __init__(self, text: str, hides: bool = True) -> None:
        super().__init__(text)
        self.hides = hides


def worst_level(findings: Iterable[Finding], otherwise: str) -> str:
    """The worst level of some findings; otherwise: where there are none."""
    return min((finding.level for finding in findings), key=LEVELS.index, default=otherwise)


def fails(outcome: Outcome, strict: bool) -> bool:
    """Whether a test with this outcome fails."""
    decisive = {MUST, "SHOULD"} if strict else {MUST}
    found = any(finding.level in decisive for finding in outcome.findings)
    return outcome.outcome == "error" or (outcome.outcome != "known failure" and found)
