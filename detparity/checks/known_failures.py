"""Known failures: what a version of a tool cannot do, each with its check, artifacts, versions, message, reason and link.

A failure whose message matches is a known failure and decides nothing. Any other finding of the same check still fails. A check that
passes where it is listed as failing, and an entry that nothing in the run can match, fail too. docs/expectations.md shows the file.
"""

from __future__ import annotations

import functools
import importlib
import re
import sys
import warnings
from dataclasses import dataclass, replace
from fnmatch import fnmatchcase
from pathlib import Path
from typing import Any, Dict, Iterable, List, Mapping, Optional, Pattern, Sequence, Tuple

from detparity.core import environment as facts
from detparity.core.contract import INFO
from detparity.core.errors import InputError, clipped
from detparity.core.files import require_file
from detparity.core.findings import Finding, Outcome

FORMAT = 2
TABLE = {1: "debt", 2: "known_failure"}  # format to the name of its tables
MESSAGE = {1: "says", 2: "message"}  # format to the key of the pattern
MOST_BYTES = 1 << 20


@dataclass(frozen=True)
class KnownFailure:
    """artifacts: patterns on the names of artifacts: an exporter's variant, or a file's name; when: versions by fact; message: a
    regular expression found in the message or a note of every finding it covers; location: file and entry, for messages."""

    check: str
    artifacts: Tuple[str, ...]
    when: Mapping[str, str]
    message: str
    reason: str
    link: str
    location: str

    def matches(self, artifact: str, check: str) -> bool:
        """Whether it is about this check on this artifact, in any version."""
        return check == self.check and any(fnmatchcase(artifact, pattern) for pattern in self.artifacts)

    def covers(self, finding: Finding) -> bool:
        return any(pattern(self.message).search(text) for text in (finding.message, *finding.notes))


@functools.cache
def pattern(text: str) -> Pattern[str]:
    """The compiled pattern of a message. Raises re.error for what is none, and warns of nothing."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", FutureWarning)
        return re.compile(text)


def read(path: Path) -> Tuple[KnownFailure, ...]:
    """Read a file of known failures, of format 1 or 2. Raises InputError for a wrong file, in one line with the file and the entry."""
    require_file(path, "a file of known failures")
    if path.stat().st_size > MOST_BYTES:
        raise InputError(f"{path} is larger than {MOST_BYTES >> 20} MiB, so it is no file of known failures")
    toml: Any = importlib.import_module("tomllib" if sys.version_info >= (3, 11) else "tomli")
    try:
        content = toml.loads(path.read_text(encoding="utf-8"))
    except (
        ValueError,
        RecursionError,
    ) as error:  # wrong TOML, wrong UTF-8, numbers of thousands of digits, endless nesting
        raise InputError(f"{path} is not TOML: {clipped(error)}") from None
    number = content.get("format")
    version = number if isinstance(number, int) and number in TABLE else 0
    table = TABLE.get(version, TABLE[FORMAT])
    entries = content.get(table, [])
    if not version or set(content) - {"format", table} or not isinstance(entries, list):
        raise InputError(
            f"{path} must hold `format = {FORMAT}` and [[{TABLE[FORMAT]}]] entries, and nothing else at its top level"
        )
    return tuple(
        _entry(entry, MESSAGE[version], f"{path.name}, known failure {index}") for index, entry in enumerate(entries, 1)
    )


def _entry(entry: Any, message: str, location: str) -> KnownFailure:
    kinds = {"check": str, "artifacts": list, "when": dict, message: str, "reason": str, "link": str}
    if not isinstance(entry, dict) or set(entry) != set(kinds):
        raise InputError(f"{location}: an entry has exactly the keys {', '.join(kinds)}")
    for key, kind in kinds.items():
        if not isinstance(entry[key], kind) or (key != "link" and not entry[key]):
            raise InputError(f"{location}: {key} is empty or not a {kind.__name__}")
    if entry["link"] and not re.match(r"https?://\S+\Z", entry["link"]):
        raise InputError(f"{location}: link is no web address")
    if not all(isinstance(pattern, str) and pattern for pattern in entry["artifacts"]):
        raise InputError(f"{location}: artifacts is not a list of names or patterns")
    try:
        when = dict(facts.condition(entry["when"]))
        pattern(entry[message])
    except (ValueError, re.error) as error:
        raise InputError(f"{location}: {error}") from None
    values = (entry["check"], tuple(entry["artifacts"]), when, entry[message], entry["reason"], entry["link"])
    return KnownFailure(*values, location=location)


@dataclass(frozen=True)
class KnownFailures:
    """The known failures of this environment."""

    entries: Tuple[KnownFailure, ...] = ()

    def of(self, artifact: str, check: str) -> Optional[KnownFailure]:
        """The known failure of this check on this artifact. Raises InputError where two entries match."""
        found = [entry for entry in self.entries if entry.matches(artifact, check)]
        if len(found) > 1:
            raise InputError(f"{found[1].location}: {check} on {artifact} already has an entry, {found[0].location}")
        return found[0] if found else None

    def require_met(self, pairs: Iterable[Tuple[str, str]], checks: Sequence[str]) -> None:
        """Raise InputError for an entry that names no known check, or that no (artifact, check) of the run matches."""
        known = list(pairs)
        for entry in self.entries:
            if entry.check not in checks:
                raise InputError(f"{entry.location}: there is no check {entry.check!r}; `detparity checks` lists them")
            if not any(entry.matches(artifact, check) for artifact, check in known):
                raise InputError(
                    f"{entry.location}: {entry.check} on {', '.join(entry.artifacts)} matches nothing in this run; "
                    "remove it or narrow it"
                )


def applying(entries: Iterable[KnownFailure], environment: Mapping[str, str]) -> KnownFailures:
    """The known failures whose condition this environment meets."""
    return KnownFailures(tuple(entry for entry in entries if facts.holds(entry.when, environment)))


def settle(outcome: Outcome, known: Optional[KnownFailure]) -> Outcome:
    """The outcome under a known failure: `known failure`, or the findings it does not cover, or an unexpected pass, which fails."""
    if known is None or outcome.outcome in ("skipped", "error"):
        return outcome
    decisive = [finding for finding in outcome.findings if finding.level != INFO]
    if not decisive:
        return replace(outcome, outcome="failed", findings=(_unexpected(known),))
    other = tuple(finding for finding in decisive if not known.covers(finding))
    if other:
        return replace(outcome, findings=other)
    return replace(outcome, outcome="known failure", reason=known.reason, known_failure=record(known))


def _unexpected(known: KnownFailure) -> Finding:
    rows = (
        ("where", known.location),
        ("when", _versions(known.when)),
        ("message", known.message),
        ("reason", known.reason),
    )
    return Finding(
        f"passes {known.check}, which is a known failure here.",
        rows,
        notes=("Remove the known failure, or narrow its condition to the versions that still fail.",),
        evidence={"known_failure": record(known)},
    )


def _versions(when: Mapping[str, str]) -> str:
    return ", ".join(f"{name} {versions}" for name, versions in when.items())


def record(known: KnownFailure) -> Dict[str, str]:
    """A known failure as data for the report."""
    return {"reason": known.reason, "link": known.link, "place": known.location, "when": _versions(known.when)}


def idle(entries: Iterable[KnownFailure], environments: Iterable[Mapping[str, str]]) -> List[KnownFailure]:
    """Known failures whose condition none of these environments meets."""
    known = list(environments)
    return [entry for entry in entries if not any(facts.holds(entry.when, found) for found in known)]
