"""The matrix as a page of GitHub-flavoured Markdown."""

from __future__ import annotations

import re
from typing import Iterable, List, Sequence

from detparity.reports.matrix.advice import NO, UNDECIDED, lanes_text
from detparity.reports.matrix.model import Lane, Matrix
from detparity.reports.matrix.view import (
    LEGEND,
    LEGEND_END,
    Alert,
    Block,
    Finding,
    Mark,
    by_section,
    quick_text,
    safe_link,
    sentence,
    strict_text,
    view,
)

MOST = 4  # numbers in one cell of the summary; the others are in the full table, which is for HTML and JSON alone
_SPECIAL = re.compile(r"([\\`*\[\]|~#$]|(?<!\w)_|_(?!\w))")
_PLAIN = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]*")


def escape(text: str) -> str:
    """Text as it is, whatever it holds: no markup, no tag, no cell or line that ends early."""
    line = " ".join(text.split())
    line = line.replace("&", "&amp;").replace("<", "&lt;").replace(">", "&gt;")
    return _SPECIAL.sub(r"\\\1", line)


def code(name: str) -> str:
    """A check's id as code, or escaped where it is no plain name."""
    return f"`{name}`" if _PLAIN.fullmatch(name) else escape(name)


def page(matrix: Matrix) -> str:
    """Return the page."""
    shown = view(matrix)
    head = [_heading(lane) for lane in shown.lanes]
    remarks = " ".join(filter(None, (strict_text(shown.lanes), quick_text(shown.lanes))))
    lines = [
        "# Compatibility",
        "",
        f"Made by `detparity matrix` {shown.made}. Model: {escape(shown.model)}.",
        "",
        f"Verdict: **{shown.verdict}** ({shown.counts}).",
        *_alerts(shown.alerts),
        "",
        "; ".join(f"**{escape(word)}** {meaning}" for word, meaning in LEGEND) + f". {LEGEND_END}",
        *(("", remarks) if remarks else ()),
        "",
        "## Variants",
        "",
        "Columns are versions of torch, with the Python below.",
        "",
        *_table(["variant", "axes", *head], _summary(shown.summary)),
        *(("", f"**part**: {escape(' '.join(shown.absent))}") if shown.absent else ()),
        "",
        "## What goes together",
        "",
        "Versions as they ran. The last columns are opset / IR version: of the lane's exports, what its onnx package writes by "
        "default, and the newest its onnxruntime reads.",
        "",
        *_table(shown.together[0], ([escape(text) for text in row] for row in shown.together[1:])),
        "",
        *(f"- {escape(sentence)}" for sentence in shown.advice),
        "",
        "## Findings",
        *_findings(shown.findings, shown.lanes),
        "",
        "## Every check",
        "",
        f"{sum(len(block.lines) for block in shown.tables)} rows, one for each check of each variant, are in the page that "
        "`detparity matrix REPORTS --html FILE` makes, and in `--json FILE`.",
        "",
        *(f"[{finding.number}]: #finding-{finding.number}" for finding in shown.findings),
    ]
    return "\n".join(lines).rstrip("\n") + "\n"


def _heading(lane: Lane) -> str:
    return f"{lane.torch}<br>py {lane.python}" + ("" if lane.reported else "<br>no report")


def _alerts(alerts: Sequence[Alert]) -> List[str]:
    lines = [f"- **{alert.lane}**: {escape(alert.text)}{_numbers(alert.numbers, MOST)}" for alert in alerts]
    return ["", *lines] if lines else []


def _table(head: Sequence[str], rows: Iterable[Sequence[str]]) -> List[str]:
    return [_row(head), "|" + "---|" * len(head), *map(_row, rows)]


def _row(cells: Sequence[str]) -> str:
    return f"| {' | '.join(cells)} |"


def _numbers(numbers: Sequence[int], most: int) -> str:
    """References to findings, the worst first."""
    if not numbers:
        return ""
    more = f" +{len(numbers) - most}" if len(numbers) > most else ""
    return " " + " ".join(f"[{number}]" for number in numbers[:most]) + more


def _mark(mark: Mark, most: int) -> str:
    word = f"**{mark.word}**" if mark.word in (NO, UNDECIDED) else mark.word
    return word + _numbers(mark.numbers, most)


def _summary(blocks: Iterable[Block]) -> Iterable[List[str]]:
    for block in blocks:
        for index, line in enumerate(block.lines):
            title = "" if index else f"**{escape(block.title)}**"
            label = " ".join(part for part in (line.label, escape(line.note)) if part)
            yield [title, label, *(_mark(mark, MOST) for mark in line.marks)]


def _findings(findings: Sequence[Finding], lanes: Sequence[Lane]) -> Iterable[str]:
    if not findings:
        return ["", "None."]
    lines: List[str] = []
    for title, entries in by_section(findings).items():
        lines += ["", f"### {title}", ""]
        lines += [_finding(entry, lanes) for entry in entries]
    return lines


def _finding(finding: Finding, lanes: Sequence[Lane]) -> str:
    detail = finding.detail
    level = f" ({detail.level})" if detail.level else ""
    parts = [
        f'- <a id="finding-{finding.number}"></a>**{finding.number}** {code(finding.check)}{level} '
        f"of {escape(', '.join(finding.artifacts))}: {escape(sentence(detail.message or detail.reason))}"
    ]
    if detail.message and detail.reason:
        parts.append(f"Reason: {escape(sentence(detail.reason))}")
    if detail.link:
        parts.append(f"<{detail.link}>" if safe_link(detail.link) else escape(detail.link))
    parts.append(f"*In {lanes_text(finding.lanes, lanes)}.*")
    return " ".join(parts)
