"""The report as Markdown, for the summary of a CI step or a comment: verdict, table of files, what failed, why, how to fix it."""

from __future__ import annotations

import html
from typing import Any, Iterator, List, Mapping

from detparity.core.guides import fix_of, guides
from detparity.core.text import printable
from detparity.reports.engines import HEADINGS, NOTE, cells
from detparity.reports.findings import decisive, in_order, roots
from detparity.reports.paths import portable
from detparity.reports.terminal import decides, titled, verdict_line

MOST_BYTES = 1_000_000  # GitHub refuses a summary of more than 1 MiB


def page(report: Mapping[str, Any]) -> str:
    """The page; findings in full are left out from the end where it would be too long for a summary."""
    made = portable(report)
    lines = [f"## detparity: {made['verdict']}", "", _cell(verdict_line(made).rpartition("\n")[2]), "", *_files(made)]
    lines += _engines(made)
    size = sum(len(line.encode()) + 1 for line in lines)
    for artifact in made["artifacts"]:
        section = list(_section(artifact, made["strict"]))
        size += sum(len(line.encode()) + 1 for line in section)
        if size > MOST_BYTES:
            lines += ["", "What else failed is in the JSON and HTML reports: a summary holds no more."]
            break
        lines += section
    return "\n".join(lines) + "\n"


def _files(report: Mapping[str, Any]) -> List[str]:
    lines = ["| file | verdict | checks | decided by |", "|---|---|---|---|"]
    for one in report["artifacts"]:
        ran = sum(check["outcome"] != "skipped" for check in one["checks"])
        count = f"{ran} of {max(one.get('applying', 0), len(one['checks']))}" if one["checks"] else ""
        cells = (_code(titled(one)), f"**{one['verdict']}**", count, _cell(decides(one, report["strict"])))
        lines.append(f"| {' | '.join(cells)} |")
    return lines


def _engines(report: Mapping[str, Any]) -> List[str]:
    rows = report.get("engines", ())
    if not rows:
        return []
    lines = ["", f"| {' | '.join(HEADINGS)} |", "|" + "---|" * len(HEADINGS)]
    for row in rows:
        name, *others = cells(row)
        lines.append(f"| {' | '.join((_code(name), *map(_cell, others)))} |")
    return [*lines, "", f"{NOTE[0].upper()}{NOTE[1:]}."]


def _section(artifact: Mapping[str, Any], strict: bool) -> Iterator[str]:
    """What failed in one file, each finding folded behind its sentence."""
    folded = roots(artifact["checks"])
    shown = [
        (check, finding)
        for check in in_order(artifact["checks"])
        if check["id"] not in folded and check["outcome"] != "known failure"
        for finding in check["findings"]
        if finding["level"] != "INFO"
    ]
    if not shown:
        return
    yield from ("", f"### {_code(titled(artifact))}")
    for check, finding in sorted(shown, key=lambda pair: pair[1]["level"] not in decisive(strict)):
        guide, fix = guides().get(check["id"]), fix_of(check["id"], finding.get("fix"))
        yield from ("", f"**{check['id']}** ({finding['level']}): {_cell(finding['message'])}")
        if guide is not None:
            yield from ("", f"Why it matters: {_cell(guide.why)}")
        if fix:
            yield from ("", f"Fix: {_cell(fix)}")
        text = html.escape("\n".join(map(printable, finding["text"].split("\n"))), quote=False)
        yield from ("", "<details><summary>in full</summary>", "", f"<pre>{text}</pre>", "", "</details>")
    followers = [f"{name} follows from {root}" for name, root in folded.items()]
    if followers:
        yield from ("", f"{_cell('; '.join(followers))}.")


def _cell(text: str) -> str:
    """Text in which nothing is Markdown or HTML."""
    shown = html.escape(" ".join(map(printable, text.split("\n"))), quote=False)
    for letter in "\\|`*_[]~":
        shown = shown.replace(letter, f"\\{letter}")
    return shown


def _code(text: str) -> str:
    return f"<code>{html.escape(printable(text), quote=False).replace('|', '&#124;')}</code>"
