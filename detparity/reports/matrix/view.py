"""The content of a matrix's pages, computed once for Markdown and HTML: marks, numbered findings, advice. Plain data."""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import Dict, Iterable, List, Mapping, Sequence, Set, Tuple

from detparity.core.text import listed
from detparity.reports.matrix.advice import (
    KNOWN,
    NO,
    NOTHING,
    PART,
    UNDECIDED,
    UNKNOWN,
    YES,
    advice,
    lanes_text,
    limit,
    versions_text,
    written_by,
)
from detparity.reports.matrix.model import (
    CONFORMS,
    ERROR,
    FILE_CHECK,
    INCOMPLETE,
    KNOWN_FAILURE,
    NOTED,
    OPEN,
    SKIPPED,
    VIOLATES,
    Artifact,
    Detail,
    Lane,
    Matrix,
    Row,
    split_variant,
)

LEGEND_END = "A number leads to the finding; of a check that a failed one keeps from running, to that one's."
LEGEND: Tuple[Tuple[str, str], ...] = (
    (YES, "every check that ran conforms"),
    (NO, "a check violates"),
    (UNDECIDED, "a check that decides could not run or broke, and none violates"),
    (KNOWN, "a known failure, with its reason"),
    (PART, "conforms, but fewer checks ran than in other lanes"),
    (NOTHING, "not run"),
)
SECTIONS: Tuple[Tuple[str, str], ...] = (  # in the order of the numbered list: what decides comes first
    (VIOLATES, "Violations"),
    (ERROR, "Broke before they could judge"),
    (INCOMPLETE, "Could not run, and leave a promise open"),
    (KNOWN_FAILURE, "Known failures"),
    (NOTED, "Remarks, which decide nothing"),
    (SKIPPED, "Not run, which hides no promise"),
)
WORD = {
    VIOLATES: NO,
    ERROR: UNDECIDED,
    INCOMPLETE: UNDECIDED,
    KNOWN_FAILURE: KNOWN,
    NOTED: YES,
    SKIPPED: NOTHING,
    CONFORMS: YES,
}
_LINK = re.compile(r"https?://[^\s<>\"'`|\\\[\]]+")
MADE = "export.made"
_BLOCKED = re.compile(r"blocked by (\S+)")
CellKey = Tuple[Artifact, str, str]  # artifact, check, lane


@dataclass(frozen=True)
class Finding:
    """One thing that was found, once. artifacts and lanes: every pair of them has it."""

    number: int
    kind: str
    check: str
    detail: Detail
    artifacts: Tuple[str, ...]
    lanes: Tuple[str, ...]


@dataclass(frozen=True)
class Mark:
    """The content of a cell. numbers: the findings behind it, worst first; title: the same as text."""

    word: str
    numbers: Tuple[int, ...] = ()
    title: str = ""


@dataclass(frozen=True)
class Line:
    """A row of marks, one per lane. label: the axes in the summary, the check in the full tables; note: file, or level."""

    label: str
    note: str
    marks: Tuple[Mark, ...]


@dataclass(frozen=True)
class Block:
    """Rows under one title: the axes of a variant in the summary, the checks of an artifact in the full tables."""

    title: str
    lines: Tuple[Line, ...]


@dataclass(frozen=True)
class Alert:
    """Why a lane is incomplete or violates, for the top of the page."""

    lane: str
    text: str
    numbers: Tuple[int, ...] = ()


@dataclass(frozen=True)
class View:
    """Everything a page shows, in its order."""

    verdict: str
    model: str
    made: str
    counts: str
    lanes: Tuple[Lane, ...]
    alerts: Tuple[Alert, ...]
    summary: Tuple[Block, ...]
    absent: Tuple[str, ...]
    together: Tuple[Tuple[str, ...], ...]
    advice: Tuple[str, ...]
    findings: Tuple[Finding, ...]
    tables: Tuple[Block, ...]


def view(matrix: Matrix) -> View:
    """Compute the content of the pages of this matrix."""
    findings = _findings(matrix)
    numbers = _Numbers(matrix, findings)
    return View(
        matrix.verdict,
        matrix.model[1],
        _made(matrix),
        counts(matrix),
        matrix.lanes,
        tuple(_alerts(matrix, numbers)),
        tuple(_summary(matrix, numbers)),
        tuple(_absent(matrix)),
        tuple(_together(matrix)),
        tuple(advice(matrix)),
        tuple(findings),
        tuple(_tables(matrix, numbers)),
    )


def title_of(artifact: Artifact) -> str:
    """How an artifact is called: ours by their variant, others by path and variant."""
    path, variant = artifact
    return path if variant in ("", path) else f"{path} ({variant})"


def counts(matrix: Matrix) -> str:
    """How many lanes came to which verdict, for the verdict line."""
    verdicts = [lane.verdict for lane in matrix.lanes]
    parts = []
    for verdict, several in (("violates", "violate"), ("incomplete", "incomplete"), ("conforms", "conform")):
        count = verdicts.count(verdict)
        if count:
            parts.append(f"{count} {verdict if count == 1 else several}")
    return f"{_many(len(verdicts), 'lane')}: {', '.join(parts)}"


def _many(count: int, noun: str) -> str:
    return f"{count} {noun}{'' if count == 1 else 's'}"


def _made(matrix: Matrix) -> str:
    reported = sum(lane.reported for lane in matrix.lanes)
    return f"from the reports of {_many(reported, 'lane')}" + (f", {matrix.date}" if matrix.date else "")


# --- findings -------------------------------------------------------------------------------------------------------


Rows = Mapping[Tuple[Artifact, str], Row]


def _blocker(rows: Rows, row: Row, lane: str) -> str:
    """The check that keeps this one from running here, "" where none does.

    Where a file was not made at all, every check of it is skipped for the reason that export.made gives.
    """
    cell = row.cells[lane]
    if cell.kind != SKIPPED:
        return ""
    matches = (_BLOCKED.fullmatch(detail.reason) for detail in cell.details)
    named = next((found.group(1) for found in matches if found), "")
    blocker = rows.get((row.artifact, named or MADE))
    behind = blocker.cells.get(lane) if blocker else None
    if behind is None or not behind.details or row is blocker:
        return ""
    return named or (MADE if behind == cell else "")


def _findings(matrix: Matrix) -> List[Finding]:
    """Each distinct thing behind a cell, numbered; artifacts that have it in the same lanes share an entry."""
    order = {lane.name: index for index, lane in enumerate(matrix.lanes)}
    rows = {(row.artifact, row.check): row for row in matrix.rows}
    found: Dict[Tuple[str, str, Detail], Dict[Artifact, Set[str]]] = {}
    for row in matrix.rows:
        for lane, cell in row.cells.items():
            if _blocker(rows, row, lane):
                continue  # the blocker has its own entry, and this cell leads there
            for detail in cell.details:
                found.setdefault((cell.kind, row.check, detail), {}).setdefault(row.artifact, set()).add(lane)
    positions = {artifact: index for index, artifact in enumerate(matrix.artifacts)}
    kinds = [kind for kind, _ in SECTIONS]
    entries = []
    for (kind, check, detail), where in found.items():
        shared: Dict[Tuple[str, ...], List[Artifact]] = {}
        for artifact in sorted(where, key=lambda item: positions[item]):
            shared.setdefault(tuple(sorted(where[artifact], key=lambda name: order[name])), []).append(artifact)
        for lanes, artifacts in shared.items():
            rank = (kinds.index(kind), positions[artifacts[0]], check, [order[lane] for lane in lanes], detail)
            entries.append((rank, kind, check, detail, tuple(map(title_of, artifacts)), lanes))
    entries.sort(key=lambda entry: entry[0])
    return [Finding(number, *entry[1:]) for number, entry in enumerate(entries, 1)]


class _Numbers:
    """Looks up the findings behind a cell."""

    def __init__(self, matrix: Matrix, findings: Sequence[Finding]) -> None:
        self.by_number = {finding.number: finding for finding in findings}
        self._rows = {(row.artifact, row.check): row for row in matrix.rows}
        self._own: Dict[Tuple[str, str, str], List[int]] = {}
        for finding in findings:
            for title in finding.artifacts:
                for lane in finding.lanes:
                    self._own.setdefault((title, finding.check, lane), []).append(finding.number)

    def of(self, key: CellKey, seen: Tuple[str, ...] = ()) -> Tuple[int, ...]:
        """The numbers of a cell's findings; of a blocked check's, those of what blocks it."""
        artifact, check, lane = key
        own = self._own.get((title_of(artifact), check, lane))
        row = self._rows.get((artifact, check))
        if own or row is None or lane not in row.cells or check in seen:
            return tuple(own or ())
        blocker = _blocker(self._rows, row, lane)
        return self.of((artifact, blocker, lane), (*seen, check)) if blocker else ()

    def text(self, numbers: Iterable[int]) -> str:
        """The findings as text, for a cell's title."""
        found = [self.by_number[number] for number in numbers]
        return "; ".join(f"{finding.check}: {_detail_text(finding.detail)}" for finding in found)


def _detail_text(detail: Detail) -> str:
    return " ".join(sentence(part) for part in (detail.message, detail.reason) if part)


def sentence(text: str) -> str:
    """Text that ends as a sentence, so that another may follow."""
    return text if text.endswith((".", "!", "?", "...")) else text + "."


def _alerts(matrix: Matrix, numbers: _Numbers) -> Iterable[Alert]:
    for lane in matrix.lanes:
        if not lane.reported:
            yield Alert(lane.name, "expected, but no report came.")
            continue
        for text in lane.broken:
            yield Alert(lane.name, f"its test run broke: {text}")
        for text in lane.lacking:
            yield Alert(lane.name, text)
        rows = [row for row in matrix.rows if lane.name in row.cells]
        kinds = {row.cells[lane.name].kind for row in rows}
        for kind, what in ((ERROR, "broke before it could judge"), (INCOMPLETE, "could not run")):
            behind = [n for row in rows if row.cells[lane.name].kind == kind for n in _of(numbers, row, lane.name)]
            if behind:
                yield Alert(lane.name, f"a check {what}.", tuple(sorted(set(behind))))
        if lane.verdict == "violates" and VIOLATES not in kinds:
            yield Alert(lane.name, "its report says that it violates, but no check in it does.")
        if lane.verdict == "incomplete" and not (lane.broken or lane.lacking or kinds & set(OPEN)):
            yield Alert(lane.name, "its report is incomplete, and no check in it says why.")


def _of(numbers: _Numbers, row: Row, lane: str) -> Tuple[int, ...]:
    return numbers.of((row.artifact, row.check, lane))


# --- tables ---------------------------------------------------------------------------------------------------------


def _lacking(rows: Sequence[Row], lane: str) -> List[str]:
    """The checks of an artifact that other lanes ran and this one does not report."""
    return [row.check for row in rows if lane not in row.cells and row.check != FILE_CHECK]


def _worst(rows: Sequence[Row], lane: str, numbers: _Numbers) -> Mark:
    """An artifact's cell in the summary: the worst of its checks; those that decide nothing do not count against it."""
    cells = [(row, row.cells[lane].kind) for row in rows if lane in row.cells]
    kinds = {kind for _, kind in cells}
    counted = {VIOLATES, *OPEN, KNOWN_FAILURE}
    if kinds & counted:
        word = NO if VIOLATES in kinds else UNDECIDED if kinds & set(OPEN) else KNOWN
    elif kinds <= {SKIPPED}:
        word, counted = NOTHING, {SKIPPED}
    else:
        return Mark(PART if _lacking(rows, lane) else YES)
    behind = sorted({number for row, kind in cells if kind in counted for number in _of(numbers, row, lane)})
    return Mark(word, tuple(behind), numbers.text(behind))


def _summary(matrix: Matrix, numbers: _Numbers) -> Iterable[Block]:
    blocks: Dict[str, List[Line]] = {}
    for artifact in matrix.artifacts:
        path, variant = artifact
        rows = matrix.rows_of(artifact)
        stem, axes = split_variant(variant) if variant else ("unreadable", "")
        marks = tuple(_worst(rows, lane.name, numbers) for lane in matrix.lanes)
        blocks.setdefault(stem, []).append(Line(axes, "" if path == variant else path, marks))
    return [Block(title, tuple(lines)) for title, lines in blocks.items()]


def _tables(matrix: Matrix, numbers: _Numbers) -> Iterable[Block]:
    for artifact in matrix.artifacts:
        rows = matrix.rows_of(artifact)
        yield Block(title_of(artifact), tuple(_line(row, matrix.lanes, numbers) for row in rows))


def _line(row: Row, lanes: Sequence[Lane], numbers: _Numbers) -> Line:
    marks = []
    for lane in lanes:
        if lane.name not in row.cells:
            marks.append(Mark(NOTHING, (), "not in the report of this lane" if lane.reported else "no report"))
            continue
        behind = _of(numbers, row, lane.name)
        marks.append(Mark(WORD[row.cells[lane.name].kind], behind, numbers.text(behind)))
    return Line(row.check, row.level, tuple(marks))


def _absent(matrix: Matrix) -> Iterable[str]:
    """One sentence per lane whose yes is only a part: what its report lacks."""
    lanes: Dict[Tuple[Tuple[str, ...], int], List[str]] = {}
    for lane in matrix.lanes:
        lacking: Set[str] = set()
        files = 0
        for artifact in matrix.artifacts:
            rows = matrix.rows_of(artifact)
            kinds = {row.cells[lane.name].kind for row in rows if lane.name in row.cells}
            if kinds & {CONFORMS, NOTED} and _lacking(rows, lane.name):
                lacking.update(_lacking(rows, lane.name))
                files += 1
        if files:
            lanes.setdefault((tuple(sorted(lacking)), files), []).append(lane.name)
    for (checks, files), names in lanes.items():
        yield f"{lanes_text(names, matrix.lanes)}: {_many(files, 'file')} without {listed(checks)}."


# --- what goes together ---------------------------------------------------------------------------------------------


def _together(matrix: Matrix) -> Iterable[Tuple[str, ...]]:
    """The table of versions, headings first."""
    packages = ("python", "torch", "numpy", "onnx", "onnxruntime")
    yield ("lane", *packages, "exports", "onnx writes", "onnxruntime reads", "verdict")
    for lane in matrix.lanes:
        wrote = ", ".join(versions_text(*both) for both in written_by(matrix, lane)) or UNKNOWN
        versions = [lane.environment.get(package, UNKNOWN) for package in packages]
        yield (lane.name, *versions, wrote, limit(lane, "onnx"), limit(lane, "ort"), lane.verdict)


def safe_link(link: str) -> bool:
    """Whether a link may be one on a page: http or https, and nothing in it that could end it early."""
    return bool(_LINK.fullmatch(link))


def strict_text(lanes: Sequence[Lane]) -> str:
    """The lanes in which SHOULD decides as well, "" where none."""
    names = [lane.name for lane in lanes if lane.strict]
    return f"SHOULD findings violate as well (strict) in {lanes_text(names, lanes)}." if names else ""


def quick_text(lanes: Sequence[Lane]) -> str:
    """The lanes in which less was tried, "" where none."""
    names = [lane.name for lane in lanes if lane.quick]
    return f"Fewer pictures, sizes and draws were tried (quick) in {lanes_text(names, lanes)}." if names else ""


def by_section(findings: Sequence[Finding]) -> Mapping[str, List[Finding]]:
    """The findings under the heading of their section, empty sections left out."""
    found = {title: [finding for finding in findings if finding.kind == kind] for kind, title in SECTIONS}
    return {title: entries for title, entries in found.items() if entries}
