"""Report text for a terminal: fitted to its width, and coloured. Text alone; what a stream is, its caller knows."""

from __future__ import annotations

import re
import textwrap
from typing import List, Sequence

GOOD, BAD, SOFT, QUIET, STRONG = "32", "31", "33", "2", "1"
COLOURS = {
    **dict.fromkeys(("passed", "conforms", "consistent"), GOOD),
    **dict.fromkeys(("FAILED", "ERROR", "violates", "unusable", "not made"), BAD),
    **dict.fromkeys(("SHOULD", "INFO", "known failure", "incomplete"), SOFT),
    **dict.fromkeys(("skipped", "follows"), QUIET),
}
WORD = "|".join(map(re.escape, COLOURS))
ROW = re.compile(
    rf"^(  |  \S.*?  )({WORD})(?=  |$)"
)  # of a table: the first or second column is an outcome or a verdict
HEADING = re.compile(rf"^(Verdict: |\S.*?: )({WORD})\b")
FINDING = re.compile(r"^(?:export|structure|script|parity|nms)\.[a-z0-9-]+: ")
LABEL = re.compile(r"^  (?:Fix|More|Repeat|Cause): ")
GAP = re.compile(r"\S {2,}(?=\S)")


def fitted(text: str, width: int) -> str:
    """The text in lines of at most `width`: paragraphs wrapped again, last columns of tables under themselves. A command remains one
    line, so that it can be copied."""
    lines: List[str] = []
    for block in text.split("\n\n"):
        rows = block.split("\n")
        if lines:
            lines.append("")
        if any(len(row) > width for row in rows):
            rows = _joined(rows)
        for row in rows:
            lines += _wrapped(row, width)
    return "\n".join(lines)


def _joined(rows: Sequence[str]) -> List[str]:
    """Prose as one row, or rows of a table, those that continue a last column joined to it."""
    prose = not any(GAP.search(row) for row in rows) and len({_indent(row) for row in rows}) == 1
    found: List[str] = []
    for row in rows:
        gaps = [gap.end() for gap in GAP.finditer(found[-1])] if found else []
        if found and (prose or (gaps and _indent(row) == gaps[-1] and not GAP.search(row))):
            found[-1] += " " + row.strip()
        else:
            found.append(row)
    return found


def _indent(row: str) -> int:
    return len(row) - len(row.lstrip())


def _wrapped(row: str, width: int) -> List[str]:
    if len(row) <= width or row.lstrip().startswith("Repeat:"):
        return [row]
    columns = [found.end() for found in GAP.finditer(row) if found.end() <= width * 2 // 3]
    hang = columns[-1] if columns else _indent(row) + (2 if _indent(row) else 0)
    return textwrap.wrap(
        row[_indent(row) :],
        width,
        initial_indent=row[: _indent(row)],
        subsequent_indent=" " * hang,
        break_on_hyphens=False,
        replace_whitespace=False,
    )


def painted(text: str) -> str:
    """The text with colours of a terminal: outcomes, verdicts, heads of findings, labels."""
    return "\n".join(map(_painted, text.split("\n")))


def _painted(line: str) -> str:
    for pattern in (ROW, HEADING):
        found = pattern.search(line)
        if found and not FINDING.match(line):
            return line[: found.start(2)] + colour(found[2], COLOURS[found[2]]) + line[found.end(2) :]
    found = FINDING.match(line) or LABEL.match(line)
    return colour(found[0], STRONG) + line[found.end() :] if found else line


def colour(text: str, code: str) -> str:
    return f"\x1b[{code}m{text}\x1b[0m"
