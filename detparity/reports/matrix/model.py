"""Reports of many lanes as one table: rows are checks of an artifact, columns are lanes. Its schema is docs/matrix.schema.json.

Merging is order-free and may be repeated: a merged table, its parts, and the same file twice all give the same result.
"""

from __future__ import annotations

import json
import re
from dataclasses import asdict, dataclass, field, replace
from typing import Any, Dict, FrozenSet, Iterable, List, Mapping, Optional, Sequence, Tuple

from packaging.version import Version

from detparity.core.contract import LEVELS
from detparity.core.errors import InputError
from detparity.core.exported_files import Shard
from detparity.core.text import listed
from detparity.core.verdict import overall
from detparity.core.vocabulary import parse_variant, variant_names

SCHEMA = "detparity-matrix-2"
MOST_NAMED = 6  # shards without a report

# What a cell can be, best first; where the same check of a lane is reported twice, the later of these stays.
CONFORMS, NOTED, SKIPPED, KNOWN_FAILURE, INCOMPLETE, ERROR, VIOLATES = KINDS = (
    "conforms",
    "noted",  # findings that do not decide: INFO, and SHOULD in a report that is not strict
    "skipped",  # not run, and no promise is hidden by that
    "known failure",
    "incomplete",  # skipped, and a promise stays open
    "error",
    "violates",
)
# The four states readers see. Where a kind tells more than its state, the JSON has it as `why`.
STATE = {
    CONFORMS: "conforms",
    NOTED: "conforms",
    SKIPPED: "not run",
    KNOWN_FAILURE: "known failure",
    INCOMPLETE: "not run",
    ERROR: "not run",
    VIOLATES: "violates",
}
OPEN = (INCOMPLETE, ERROR)
FILE_CHECK = "(file)"  # in place of the checks of an artifact that could not be read

Artifact = Tuple[str, str]  # path as the report names it, and variant; "" where the file could not be read
Key = Tuple[str, str, str]  # path, variant, check
_LANE = re.compile(r"py(\d)(\d+)-torch(\d+)\.(\d+)")


@dataclass(frozen=True, order=True)
class Detail:
    """What explains a cell. level, message: of a finding; reason: why it is a known failure, was skipped or broke; link: of a known
    failure."""

    level: str = ""
    message: str = ""
    reason: str = ""
    link: str = ""


@dataclass(frozen=True)
class Cell:
    """One check in one lane. kind: one of `KINDS`."""

    kind: str
    details: Tuple[Detail, ...] = ()

    @property
    def state(self) -> str:
        return STATE[self.kind]


@dataclass(frozen=True, order=True)
class FileFacts:
    """What an exported file declares; -1 and "" where its report does not state it."""

    opset: int = -1
    ir_version: int = -1
    producer: str = ""


@dataclass(frozen=True)
class Lane:
    """A column. reported: False where a lane was expected and no report came; environment: versions by name;
    limits: what its onnx writes by default and the newest its onnxruntime loads; broken: what ended its test run early; quick: whether
    less was tried in any of its reports; shards: the shares of several machines that were reported; reports: the worst verdict of
    its reports, which that of the lane may be worse than, "" before they are merged."""

    name: str
    reported: bool = True
    verdict: str = "incomplete"
    strict: bool = False
    date: str = ""
    environment: Mapping[str, str] = field(default_factory=dict)
    limits: Mapping[str, int] = field(default_factory=dict)
    broken: Tuple[str, ...] = ()
    quick: bool = False
    shards: Tuple[Shard, ...] = ()
    reports: str = ""

    @property
    def lacking(self) -> Tuple[str, ...]:
        """Why it is not known that all files were judged: shares without a report, or of folders that do not hold as many files."""
        found = []
        for count in sorted({shard.of for shard in self.shards}):
            there = {shard.number for shard in self.shards if shard.of == count}
            missing = sorted(set(range(1, count + 1)) - there)
            found += [f"shard {number}/{count}: no report came." for number in missing[:MOST_NAMED]]
            found += [f"{len(missing) - MOST_NAMED} more shards of {count} lack a report."] * (
                len(missing) > MOST_NAMED
            )
            files = sorted({shard.files for shard in self.shards if shard.of == count})
            if len(files) > 1:
                found.append(f"its shards of {count} are of folders with {listed(list(map(str, files)), 3)} files.")
        return tuple(found)

    @property
    def python(self) -> str:
        """Major and minor, as in the name."""
        return ".".join(_numbers(self.name)[:2])

    @property
    def torch(self) -> str:
        """Major and minor, as in the name."""
        return ".".join(_numbers(self.name)[2:])


@dataclass(frozen=True)
class Part:
    """What one file reports about one lane. model: the subject's digest and name."""

    source: str
    model: Tuple[str, str]
    lane: Lane
    cells: Mapping[Key, Cell]
    levels: Mapping[Key, str]
    files: Mapping[Artifact, FrozenSet[FileFacts]]


@dataclass(frozen=True)
class Row:
    """One check of one artifact over all lanes; a lane that has no cell did not run it. level: the check's."""

    path: str
    variant: str
    check: str
    level: str
    cells: Mapping[str, Cell]

    @property
    def artifact(self) -> Artifact:
        return self.path, self.variant


@dataclass(frozen=True)
class Matrix:
    """The merged table. files: what each artifact's files declare, by artifact and lane."""

    model: Tuple[str, str]
    lanes: Tuple[Lane, ...]
    rows: Tuple[Row, ...]
    files: Mapping[Tuple[Artifact, str], FrozenSet[FileFacts]]

    @property
    def verdict(self) -> str:
        """The worst of the lanes."""
        return overall([lane.verdict for lane in self.lanes])

    @property
    def date(self) -> str:
        """The newest report's, "" where none has one."""
        return max(lane.date for lane in self.lanes)

    @property
    def artifacts(self) -> Tuple[Artifact, ...]:
        return tuple(dict.fromkeys(row.artifact for row in self.rows))

    def rows_of(self, artifact: Artifact) -> Tuple[Row, ...]:
        return tuple(row for row in self.rows if row.artifact == artifact)


# --- names and order ------------------------------------------------------------------------------------------------


def require_lane(name: str) -> str:
    """Return `name`. Raises InputError where it is no lane's, such as py313-torch2.15."""
    if not _LANE.fullmatch(name):
        raise InputError(f"{name!r} is no lane: lanes are named like py313-torch2.15")
    return name


def _numbers(name: str) -> Tuple[str, ...]:
    found = _LANE.fullmatch(name)
    assert found is not None, name
    return found.groups()


def lane_order(name: str) -> Tuple[Version, Version]:
    """The columns' order: torch, then Python, by number."""
    numbers = _numbers(name)
    return Version(".".join(numbers[2:])), Version(".".join(numbers[:2]))


def split_variant(variant: str) -> Tuple[str, str]:
    """The variant without its axes, and the axes: static, dynamic-batch or dynamic."""
    stem = next((variant[: -len(end)] for end in ("-dynamic-batch", "-dynamic") if variant.endswith(end)), variant)
    if variant in variant_names():
        return stem, parse_variant(variant).axes
    return stem, variant[len(stem) + 1 :] or "static"


def _artifact_order(artifact: Artifact) -> Tuple[int, str, str, int, str]:
    """Variants as the contract lists them, the axes of each together, then names it does not know, then unread files."""
    path, variant = artifact
    known, (stem, axes) = variant_names(), split_variant(variant)
    position = known.index(stem) if stem in known else len(known) + (variant == "")
    return position, stem, path if path != variant else "", ("static", "dynamic-batch", "dynamic").index(axes), variant


# --- merging --------------------------------------------------------------------------------------------------------


def merge(parts: Sequence[Part], expected: Iterable[str] = ()) -> Matrix:
    """Return the table of all parts. expected: names of lanes that must be there; one without a report is incomplete.

    Raises InputError, naming two files, where they judge different models or one lane has two environments.
    """
    for part in parts[1:]:
        if part.model[0] != parts[0].model[0]:
            raise InputError(
                f"{parts[0].source} and {part.source} judge different models: "
                f"{_model(parts[0].model)} and {_model(part.model)}"
            )
    lanes: Dict[str, Lane] = {name: Lane(require_lane(name), False) for name in expected}
    sources: Dict[Tuple[str, str], str] = {}
    for part in parts:
        name = part.lane.name
        lanes[name] = _merge_lanes(lanes[name], part, sources) if name in lanes else part.lane
        for fact in (*part.lane.environment, *part.lane.limits):
            sources.setdefault((name, fact), part.source)
    rows, files = _merge_cells(parts), _merge_files(parts)
    ordered = [lanes[name] for name in sorted(lanes, key=lane_order)]
    done = [replace(lane, verdict=_verdict(lane, rows), reports=lane.verdict) for lane in ordered]
    return Matrix(min(part.model for part in parts), tuple(done), rows, files)


def _model(model: Tuple[str, str]) -> str:
    return f"{model[1]} with digest {model[0][:12]}"


def _merge_lanes(lane: Lane, part: Part, sources: Mapping[Tuple[str, str], str]) -> Lane:
    """One lane from two reports of it; each may state a part of the environment, but they must agree where both do."""
    other = part.lane
    if not (lane.reported and other.reported):
        return lane if lane.reported else other
    for ours, theirs in ((lane.environment, other.environment), (lane.limits, other.limits)):
        for fact in sorted(set(ours) & set(theirs)):
            if ours[fact] != theirs[fact]:
                raise InputError(
                    f"{sources[lane.name, fact]} and {part.source} are both of {lane.name}, "
                    f"but {fact} is {ours[fact]} in one and {theirs[fact]} in the other"
                )
    return Lane(
        lane.name,
        True,
        overall([lane.verdict, other.verdict]),
        lane.strict or other.strict,
        max(lane.date, other.date),
        {**lane.environment, **other.environment},
        {**lane.limits, **other.limits},
        tuple(sorted({*lane.broken, *other.broken})),
        lane.quick or other.quick,
        tuple(sorted({*lane.shards, *other.shards})),
    )


def worse(one: Cell, other: Cell) -> Cell:
    """The worse of two cells; of two with the same kind, one with the details of both."""
    if one.kind == other.kind:
        return Cell(one.kind, tuple(sorted({*one.details, *other.details})))
    return max(one, other, key=lambda cell: KINDS.index(cell.kind))


def _merge_cells(parts: Sequence[Part]) -> Tuple[Row, ...]:
    cells: Dict[Key, Dict[str, Cell]] = {}
    levels: Dict[Key, str] = {}
    for part in parts:
        for key, cell in part.cells.items():
            lanes = cells.setdefault(key, {})
            lanes[part.lane.name] = worse(lanes.get(part.lane.name, cell), cell)
            levels[key] = min(part.levels[key], levels.get(key, part.levels[key]), key=LEVELS.index)
    ordered = sorted(cells, key=lambda key: (_artifact_order(key[:2]), key[2]))
    return tuple(Row(*key, levels[key], cells[key]) for key in ordered)


def _merge_files(parts: Sequence[Part]) -> Dict[Tuple[Artifact, str], FrozenSet[FileFacts]]:
    found: Dict[Tuple[Artifact, str], FrozenSet[FileFacts]] = {}
    for part in parts:
        for artifact, facts in part.files.items():
            found[artifact, part.lane.name] = found.get((artifact, part.lane.name), frozenset()) | facts
    return found


def _verdict(lane: Lane, rows: Sequence[Row]) -> str:
    """The verdict that follows from the lane's cells, and never better than that of its reports."""
    if not lane.reported:
        return "incomplete"
    kinds = {row.cells[lane.name].kind for row in rows if lane.name in row.cells}
    if VIOLATES in kinds:
        return "violates"
    undecided = bool(kinds & set(OPEN) or lane.broken or lane.lacking or not kinds)
    return overall([lane.verdict, *(["incomplete"] if undecided else [])])


# --- as JSON --------------------------------------------------------------------------------------------------------


def to_json(matrix: Matrix) -> str:
    """The table as JSON text, one line per check; reading it back gives the same table."""
    digest, name = matrix.model
    data = {
        "schema": SCHEMA,
        "verdict": matrix.verdict,
        "date": matrix.date or None,
        "subject": {"name": name, "digest": digest},
        "lanes": [_lane_data(lane) for lane in matrix.lanes],
        "artifacts": [_artifact_data(matrix, artifact) for artifact in matrix.artifacts],
    }
    return _laid_out(data, 4) + "\n"


def _lane_data(lane: Lane) -> Dict[str, Any]:
    if not lane.reported:
        return {"name": lane.name, "reported": False, "verdict": lane.verdict}
    return {
        "name": lane.name,
        "reported": True,
        "verdict": lane.verdict,
        "strict": lane.strict,
        "date": lane.date or None,
        "environment": dict(sorted(lane.environment.items())),
        "limits": dict(sorted(lane.limits.items())),
        "broken": list(lane.broken),
        **({"quick": True} if lane.quick else {}),
        **({"shards": [asdict(one) for one in lane.shards], "reports": lane.reports} if lane.shards else {}),
    }


def _artifact_data(matrix: Matrix, artifact: Artifact) -> Dict[str, Any]:
    path, variant = artifact
    names = [lane.name for lane in matrix.lanes]
    files = {name: matrix.files[artifact, name] for name in names if (artifact, name) in matrix.files}
    return {
        "path": path,
        "variant": variant or None,
        "files": {name: [_file_data(facts) for facts in sorted(found)] for name, found in files.items()},
        "checks": [
            {"id": row.check, "level": row.level, "cells": _cells_data(row, names)} for row in matrix.rows_of(artifact)
        ],
    }


def _file_data(facts: FileFacts) -> Dict[str, Any]:
    return {key: value for key, value in vars(facts).items() if value not in (-1, "")}


def _cells_data(row: Row, names: Sequence[str]) -> List[Dict[str, Any]]:
    """Each distinct cell once, with its lanes: a check that conforms everywhere is one short line."""
    lanes: Dict[Cell, List[str]] = {}
    for name in names:
        if name in row.cells:
            lanes.setdefault(row.cells[name], []).append(name)
    found = []
    for cell, where in lanes.items():
        why = {"why": cell.kind} if cell.state == "not run" else {}
        details = [{key: value for key, value in vars(detail).items() if value} for detail in cell.details]
        found.append({"state": cell.state, **why, **({"said": details} if details else {}), "lanes": where})
    return found


def _laid_out(value: Any, depth: int, indent: str = "") -> str:
    """JSON with one item a line down to `depth`, and deeper values on one line: long tables stay readable in a diff."""
    if not value or not depth or not isinstance(value, (dict, list)):
        return json.dumps(value, ensure_ascii=False)
    inner = indent + " "
    if isinstance(value, dict):
        lines = [f"{json.dumps(key)}: {_laid_out(item, depth - 1, inner)}" for key, item in value.items()]
    else:
        lines = [_laid_out(item, depth - 1, inner) for item in value]
    opening, closing = "{}" if isinstance(value, dict) else "[]"
    return f"{opening}\n" + ",\n".join(inner + line for line in lines) + f"\n{indent}{closing}"


def kind_of(state: str, why: Optional[str], details: Sequence[Detail]) -> Optional[str]:
    """The kind of a cell that its JSON describes, None where it describes none."""
    if state == "conforms":
        return NOTED if details else CONFORMS
    if state == "not run":
        return why if details and why in (SKIPPED, *OPEN) else None
    return {"known failure": KNOWN_FAILURE, "violates": VIOLATES}.get(state) if details else None
