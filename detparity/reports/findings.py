"""Which findings of an artifact's entry a page shows in full, and which in one line under the finding they follow from."""

from __future__ import annotations

from typing import Any, Dict, List, Mapping, Sequence, Set, Tuple

NEAR_TIES = (
    "What differs on the pictures are near-ties: the numbers agree within the noise, so that either side chooses "
    "between candidates that are equal but for noise."
)
Entry = Mapping[str, Any]


def decisive(strict: bool) -> Set[str]:
    """The levels that make a file violate."""
    return {"MUST", "SHOULD"} if strict else {"MUST"}


def fails(check: Entry, strict: bool) -> bool:
    """Whether a check keeps its file from conforming by what it found, or broke."""
    found = any(finding["level"] in decisive(strict) for finding in check["findings"])
    return check["outcome"] == "error" or (check["outcome"] == "failed" and found)


def unconfined(report: Entry) -> bool:
    """Whether the files under test could write wherever the user can."""
    return str(report.get("isolation", "")).startswith("unconfined")


def mark(check: Entry, strict: bool) -> str:
    """The outcome in one word: a check that failed without making its file violate is named by its level."""
    if check["outcome"] != "failed" or fails(check, strict):
        return str(check["outcome"])
    return str(check["level"])


def roots(checks: Sequence[Entry]) -> Dict[str, str]:
    """The check from whose finding a check follows, by its id: where all findings that decide follow, and the other one is shown."""
    shown = {check["id"]: check for check in checks if check["outcome"] == "failed"}
    found: Dict[str, str] = {}
    for name, check in shown.items():
        follows = {finding.get("follows", "") for finding in check["findings"] if finding["level"] == "MUST"}
        root = next(iter(follows)) if len(follows) == 1 else ""
        seen = {name}
        while root in shown and root not in seen:
            seen.add(root)
            found[name] = root
            onward = {finding.get("follows", "") for finding in shown[root]["findings"] if finding["level"] == "MUST"}
            root = next(iter(onward)) if len(onward) == 1 else ""
    return found


def in_order(checks: Sequence[Entry]) -> List[Entry]:
    """The checks, those first from which others follow."""
    causes = set(roots(checks).values())
    return sorted(checks, key=lambda check: check["id"] not in causes)


def followers(checks: Sequence[Entry]) -> List[Tuple[str, List[str]]]:
    """Ids of the checks that follow from another one, by the id of that one."""
    found: Dict[str, List[str]] = {}
    for name, root in roots(checks).items():
        found.setdefault(root, []).append(name)
    return list(found.items())
