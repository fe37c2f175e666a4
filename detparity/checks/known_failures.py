"""Known debts: what a version of a tool cannot do, stated where it can be read, and held to both ways.

A debt names one check, the artifacts and the versions it fails on, and what the failure says. A failure that says so is a known debt
and decides nothing; anything else the same check finds still fails; a check that passes where a debt says it fails, and a debt that
nothing in the run could meet, fail as well. docs/expectations.md shows the file.
"""

from __future__ import annotations

import importlib
import re
import sys
from dataclasses import dataclass, replace
from fnmatch import fnmatchcase
from pathlib import Path
from typing import Any, Dict, Iterable, List, Mapping, Optional, Sequence, Tuple

from detparity.core import environment as facts
from detparity.core.contract import INFO
from detparity.core.errors import InputError
from detparity.core.files import require_file
from detparity.core.findings import Finding, Outcome

FORMAT = 1
MOST_BYTES = 1 << 20
REQUIRED = {"check": str, "artifacts": list, "when": dict, "says": str, "reason": str, "link": str}


@dataclass(frozen=True)
class Debt:
    """artifacts: patterns on the names of artifacts: an exporter's variant, or a file's name; when: versions by fact; says: a
    pattern found in the message of every finding it covers, or in its notes; place: where it stands, for messages."""

    check: str
    artifacts: Tuple[str, ...]
    when: Mapping[str, str]
    says: str
    reason: str
    link: str
    place: str

    def meets(self, artifact: str, check: str) -> bool:
        """Whether it speaks of this check on this artifact, whatever the versions."""
        return check == self.check and any(fnmatchcase(artifact, pattern) for pattern in self.artifacts)

    def covers(self, finding: Finding) -> bool:
        return any(re.search(self.says, text) for text in (finding.message, *finding.notes))


def read(path: Path) -> Tuple[Debt, ...]:
    """Read a file of debts. Raises InputError, in one line that names the file and the entry, for what is not as it should be."""
    require_file(path, "a file of known debts")
    if path.stat().st_size > MOST_BYTES:
        raise InputError(f"{path} is larger than {MOST_BYTES >> 20} MiB, so it is no file of known debts")
    toml: Any = importlib.import_module("tomllib" if sys.version_info >= (3, 11) else "tomli")
    try:
        content = toml.loads(path.read_text(encoding="utf-8"))
    except (toml.TOMLDecodeError, UnicodeDecodeError) as error:
        raise InputError(f"{path} is not TOML: {' '.join(str(error).split())}") from None
    entries = content.get("debt", [])
    if content.get("format") != FORMAT or set(content) - {"format", "debt"} or not isinstance(entries, list):
        raise InputError(f"{path} wants `format = {FORMAT}` and [[debt]] entries, and nothing else at its top level")
    return tuple(_debt(entry, f"{path.name}, debt {number}") for number, entry in enumerate(entries, 1))


def _debt(entry: Any, place: str) -> Debt:
    if not isinstance(entry, dict) or set(entry) != set(REQUIRED):
        raise InputError(f"{place}: an entry has exactly the keys {', '.join(REQUIRED)}")
    for key, kind in REQUIRED.items():
        if not isinstance(entry[key], kind) or (key != "link" and not entry[key]):
            raise InputError(f"{place}: {key} is empty or not a {kind.__name__}")
    if entry["link"] and not re.match(r"https?://\S+\Z", entry["link"]):
        raise InputError(f"{place}: link is no web address")
    if not all(isinstance(pattern, str) and pattern for pattern in entry["artifacts"]):
        raise InputError(f"{place}: artifacts is not a list of names or patterns")
    try:
        when = dict(facts.condition(entry["when"]))
        re.compile(entry["says"])
    except (ValueError, re.error) as error:
        raise InputError(f"{place}: {error}") from None
    numbers = (entry["check"], tuple(entry["artifacts"]), when, entry["says"], entry["reason"], entry["link"])
    return Debt(*numbers, place=place)


@dataclass(frozen=True)
class Ledger:
    """The debts that are owed in this environment."""

    debts: Tuple[Debt, ...] = ()

    def owed(self, artifact: str, check: str) -> Optional[Debt]:
        """The debt of this check on this artifact. Raises InputError where two claim it."""
        found = [debt for debt in self.debts if debt.meets(artifact, check)]
        if len(found) > 1:
            raise InputError(f"{found[1].place}: {check} on {artifact} is already owed by {found[0].place}")
        return found[0] if found else None

    def require_met(self, pairs: Iterable[Tuple[str, str]], checks: Sequence[str]) -> None:
        """Raise InputError for a debt that names no known check, or that no (artifact, check) of the run can meet."""
        known = list(pairs)
        for debt in self.debts:
            if debt.check not in checks:
                raise InputError(f"{debt.place}: there is no check {debt.check!r}; `detparity checks` lists them")
            if not any(debt.meets(artifact, check) for artifact, check in known):
                raise InputError(
                    f"{debt.place}: {debt.check} on {', '.join(debt.artifacts)} matches nothing in this run; remove it or narrow it"
                )


def ledger(debts: Iterable[Debt], environment: Mapping[str, str]) -> Ledger:
    """The debts whose condition this environment meets."""
    return Ledger(tuple(debt for debt in debts if facts.holds(debt.when, environment)))


def settle(outcome: Outcome, debt: Optional[Debt]) -> Outcome:
    """What becomes of an outcome under a debt: a known debt, the findings it does not cover, or a pass that was not expected."""
    if debt is None or outcome.outcome in ("skipped", "error"):
        return outcome
    decisive = [finding for finding in outcome.findings if finding.level != INFO]
    if not decisive:
        return replace(outcome, outcome="failed", findings=(_unexpected(debt),))
    other = tuple(finding for finding in decisive if not debt.covers(finding))
    if other:
        return replace(outcome, findings=other)
    return replace(outcome, outcome="debt", reason=debt.reason, debt=debt_record(debt))


def _unexpected(debt: Debt) -> Finding:
    rows = (("where", debt.place), ("when", _versions(debt.when)), ("says", debt.says), ("reason", debt.reason))
    return Finding(
        f"passes {debt.check}, which is a known debt here.",
        rows,
        notes=("Remove the debt, or narrow its condition to the versions that still fail.",),
        evidence={"debt": debt_record(debt)},
    )


def _versions(when: Mapping[str, str]) -> str:
    return ", ".join(f"{name} {versions}" for name, versions in when.items())


def debt_record(debt: Debt) -> Dict[str, str]:
    """A debt as the report keeps it."""
    return {"reason": debt.reason, "link": debt.link, "place": debt.place, "when": _versions(debt.when)}


def idle(debts: Iterable[Debt], environments: Iterable[Mapping[str, str]]) -> List[Debt]:
    """Debts whose condition none of these environments meets."""
    known = list(environments)
    return [debt for debt in debts if not any(facts.holds(debt.when, found) for found in known)]
