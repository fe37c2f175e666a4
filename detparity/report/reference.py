"""The reference page of the checks, made from the checks themselves."""

from __future__ import annotations

from typing import Iterable, List

from detparity.findings import Check

HEAD = """# Checks

Made by `detparity checks --markdown`; a test keeps it true.

A check's level is the worst its findings have. MUST: the artifact is wrong. SHOULD: it is imprecise, and violates only under
`--strict`. INFO: an optional engine; never counts. A check that needs another is skipped when that one fails.
"""


def page(checks: Iterable[Check]) -> str:
    """Return the page as Markdown, one table per room."""
    lines: List[str] = [HEAD]
    room = ""
    for check in checks:
        if check.id.split(".")[0] != room:
            room = check.id.split(".")[0]
            lines += [
                "",
                f"## {room}",
                "",
                "| check | level | what holds | needs |",
                "|---|---|---|---|",
            ]
        lines.append(f"| `{check.id}` | {check.level} | {check.about} | {', '.join(check.needs)} |")
    return "\n".join(lines) + "\n"
