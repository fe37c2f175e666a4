"""The report as annotations of GitHub Actions: workflow commands, one a line (docs.github.com, "Workflow commands").

GitHub shows ten errors, ten warnings and ten notices of a step, so what decides comes first.
"""

from __future__ import annotations

from typing import Any, Iterator, List, Mapping, Tuple

from detparity.core.guides import fix_of
from detparity.reports.findings import decisive, in_order, roots
from detparity.reports.paths import portable

KINDS = ("error", "warning", "notice")
Found = Tuple[str, str, str, str]  # kind, file, title, message


def lines(report: Mapping[str, Any]) -> List[str]:
    """One line for each finding that no other one explains, each file that cannot be used, and each check that could not run."""
    made = portable(report)
    found = [one for artifact in made["artifacts"] for one in _of(artifact, made["strict"])]
    found.sort(key=lambda one: KINDS.index(one[0]))
    return [
        f"::{kind} file={_property(file)},title={_property(title)}::{_data(message)}"
        for kind, file, title, message in found
    ]


def _of(artifact: Mapping[str, Any], strict: bool) -> Iterator[Found]:
    path = artifact["path"]
    if artifact["verdict"] == "unusable":
        yield "error", path, "unusable", str(artifact.get("reason") or "it cannot be read")
    folded = roots(artifact["checks"])
    for check in in_order(artifact["checks"]):
        if check["outcome"] == "known failure":
            yield "notice", path, f"{check['id']} (known failure)", str(check["reason"])
        elif check["outcome"] == "error" or (check["outcome"] == "skipped" and check["incomplete"]):
            kind = "error" if check["outcome"] == "error" else "warning"
            yield kind, path, f"{check['id']} could not be judged", str(check["reason"])
        elif check["id"] not in folded:
            for finding in check["findings"]:
                level = finding["level"]
                kind = "error" if level in decisive(strict) else "warning" if level == "SHOULD" else "notice"
                fix = fix_of(check["id"], finding.get("fix"))
                yield kind, path, check["id"], f"{finding['message']}{' Fix: ' + fix if fix else ''}"


def _data(text: str) -> str:
    return text.replace("%", "%25").replace("\r", "%0D").replace("\n", "%0A")


def _property(text: str) -> str:
    return _data(text).replace(":", "%3A").replace(",", "%2C")
