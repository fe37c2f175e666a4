"""The text of a failure: one sentence, facts in columns, where, what would have passed, and how to repeat it."""

from __future__ import annotations

import textwrap
from typing import TYPE_CHECKING, List, Optional, Sequence

from detparity.core.guides import fix_of, guides

if TYPE_CHECKING:  # --help imports this module, and needs no findings
    from detparity.core.findings import Finding, Row

WIDTH = 100


def columns(rows: Sequence[Row], indent: str = "  ") -> List[str]:
    """Align rows in columns two spaces apart; the last column is free to run on."""
    widths = [
        max((len(row[k]) for row in rows if k < len(row) - 1), default=0) for k in range(max(map(len, rows), default=0))
    ]
    return [(indent + "  ".join(cell.ljust(widths[k]) for k, cell in enumerate(row))).rstrip() for row in rows]


def render(subject: str, check: str, finding: Finding, repeat: Optional[str] = None) -> str:
    """The full text of one finding; with the command that repeats it, what to do as well."""
    level = "" if finding.level == "MUST" else f" ({finding.level})"
    lines = textwrap.wrap(f"{check}: {subject} {finding.message}{level}", WIDTH)
    if finding.rows:
        lines += ["", *columns(finding.rows)]
    for note in finding.notes:
        lines += ["", *textwrap.wrap(note, WIDTH - 2, initial_indent="  ", subsequent_indent="  ")]
    if finding.follows:
        lines += ["", f"  Cause:   that of {finding.follows}"]
    if repeat:
        lines += ["", *_fix(check, finding), f"  Repeat:  {repeat}"]
    return "\n".join(lines)


def _fix(check: str, finding: Finding) -> List[str]:
    """What to do, and where more of it is; nothing for a finding that follows from another one."""
    fix = fix_of(check, finding.fix)
    if not fix or finding.follows:
        return []
    more = [f"  More:    detparity explain {check}"] if check in guides() else []
    return [*textwrap.wrap(fix, WIDTH - 2, initial_indent="  Fix:     ", subsequent_indent=" " * 11), *more]


def number(value: float) -> str:
    """A number for a person: four significant digits, no trailing noise."""
    return f"{value:.4g}"


def listed(items: Sequence[object], most: int = 6) -> str:
    """The first few items, and how many more there are."""
    shown = ", ".join(str(item) for item in items[:most])
    return shown if len(items) <= most else f"{shown} and {len(items) - most} more"


def printable(line: str, most: Optional[int] = None) -> str:
    """A line in which text of a file cannot move a terminal's cursor; most: its length, where that is to be bounded."""
    shown = line if most is None or len(line) <= most else line[: most - 3] + "..."
    return "".join(letter if letter.isprintable() else repr(letter)[1:-1] for letter in shown)
