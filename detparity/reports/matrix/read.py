"""Files into parts of a matrix: reports of `detparity check`, and matrices merged before. An error in one is reported in one line."""

from __future__ import annotations

import json
import os
import re
import unicodedata
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Dict, FrozenSet, Iterator, List, Mapping, NoReturn, Optional, Sequence, Tuple

from packaging.version import InvalidVersion, Version

from detparity.core import environment as facts
from detparity.core.contract import LEVELS, MUST, SHOULD
from detparity.core.errors import InputError
from detparity.core.exported_files import Shard
from detparity.core.files import require_file
from detparity.core.verdict import ARTIFACT_VERDICTS, EXIT
from detparity.reports.matrix import model as matrix
from detparity.reports.matrix.model import Artifact, Cell, Detail, FileFacts, Key, Lane, Part

REPORTS = ("detparity-report-1", "detparity-report-2", "detparity-report-3")
MATRICES = ("detparity-matrix-1", "detparity-matrix-2")
OLD_WORDS = {"debt": "known failure"}  # of outcomes and states up to report-2 and matrix-1
LARGEST = 64 << 20  # bytes; a real report is about 0.1 MB
LONGEST = 1000  # characters of one message
OUTCOMES = ("passed", "failed", "skipped", "error", "known failure", *OLD_WORDS)
UNCOMPARED = ("platform",)  # the kernel's version differs between the machines of one CI pool and decides nothing
_KINDS = {dict: "an object", list: "a list", str: "text", bool: "true or false", int: "a number", type(None): "null"}


# --- files ----------------------------------------------------------------------------------------------------------


def read(paths: Sequence[Path], skip: Sequence[Path] = ()) -> List[Part]:
    """Return the parts of the files, those in folders included.

    skip: files to leave out where a folder holds them, such as the outputs of this run: a table merged last week would otherwise
    bring back last week's failures. Raises InputError for a file that is neither report nor matrix.
    """
    parts = [part for path in _files(paths, [item.resolve() for item in skip]) for part in _read_file(path)]
    if not parts:
        raise InputError(f"{', '.join(map(str, paths))}: nothing to merge but what this run will write")
    return parts


def _files(paths: Sequence[Path], skip: Sequence[Path]) -> Iterator[Path]:
    for path in paths:
        if not path.is_dir():
            yield path
            continue
        walk = os.walk(str(path), onerror=_unreadable)
        found = [Path(folder) / name for folder, _, names in walk for name in names if name.endswith(".json")]
        if not found:
            raise InputError(f"{path} holds no .json file")
        yield from (item for item in sorted(found) if item.resolve() not in skip)


def _unreadable(error: OSError) -> None:
    raise InputError(f"{error.filename} cannot be read: {error.strerror}")


def _read_file(path: Path) -> List[Part]:
    require_file(path, "a report")
    if path.stat().st_size > LARGEST:
        raise InputError(f"{path} is larger than {LARGEST >> 20} MiB: no report is")
    try:
        value = json.loads(path.read_bytes().decode("utf-8-sig"))
    except OSError as error:
        raise InputError(f"{path} cannot be read: {error.strerror}") from None
    except (ValueError, RecursionError) as error:
        raise InputError(f"{path} is no JSON: {' '.join(str(error).split())[:200]}") from None
    node = _Node(value, "", str(path))
    schema = value.get("schema") if isinstance(value, dict) else None
    if schema in MATRICES:
        return _matrix(node)
    if schema in REPORTS:
        return [_report(node)]
    if schema is None:
        raise InputError(f"{path} is no detparity report: it has no schema")
    known = ", ".join((*REPORTS, *MATRICES))
    raise InputError(f"{path} has schema {clean(str(schema))[:60]!r}; this version reads {known}")


def clean(text: str) -> str:
    """One line of printable text: control, direction and surrogate characters go, and what is very long is cut."""
    line = " ".join(text.split())
    line = "".join("\ufffd" if unicodedata.category(letter) in ("Cc", "Cf", "Cs") else letter for letter in line)
    return line if len(line) <= LONGEST else line[: LONGEST - 3] + "..."


@dataclass(frozen=True)
class _Node:
    """A value of a file with its path in the file, for error messages."""

    value: Any
    where: str
    source: str

    def fail(self, what: str) -> NoReturn:
        raise InputError(f"{self.source}: {self.where or 'the file'} {what}")

    def must_be(self, kind: type) -> Any:
        if type(self.value) is not kind:
            self.fail(f"is {_KINDS.get(type(self.value), 'a number')}, not {_KINDS[kind]}")
        return self.value

    def has(self, key: str) -> bool:
        """Whether the key is there; null is the same as absent."""
        return self.must_be(dict).get(key) is not None

    def at(self, key: str) -> _Node:
        if key not in self.must_be(dict):
            self.fail(f"has no {key!r}")
        name = clean(key)[:80]
        return _Node(self.value[key], f"{self.where}.{name}" if self.where else name, self.source)

    def entries(self) -> List[_Node]:
        """The entries of this list."""
        return [_Node(item, f"{self.where}[{index}]", self.source) for index, item in enumerate(self.must_be(list))]

    def items(self, key: str) -> List[_Node]:
        """The entries of the list under `key`, none where it is absent."""
        return self.at(key).entries() if self.has(key) else []

    def members(self, key: str) -> List[Tuple[str, _Node]]:
        """Names and values of an object, none where it is absent."""
        if not self.has(key):
            return []
        node = self.at(key)
        return [(clean(name), node.at(name)) for name in node.must_be(dict)]

    def plain(self) -> str:
        return clean(self.must_be(str))

    def text(self, key: str, default: Optional[str] = None) -> str:
        if default is not None and not self.has(key):
            return default
        return self.at(key).plain()

    def name(self, key: str) -> str:
        text = self.text(key)
        if not text:
            self.at(key).fail("is empty")
        return text

    def number(self, key: str, default: int) -> int:
        return self.at(key).must_be(int) if self.has(key) else default

    def flag(self, key: str) -> bool:
        return bool(self.at(key).must_be(bool)) if self.has(key) else False

    def one_of(self, key: str, known: Sequence[str]) -> str:
        text = self.text(key)
        if text not in known:
            self.at(key).fail(f"is {text[:60]!r}, not one of {', '.join(known)}")
        return text


# --- reports --------------------------------------------------------------------------------------------------------


def _report(node: _Node) -> Part:
    strict = node.flag("strict")
    verdict = node.one_of("verdict", tuple(EXIT))
    lane = Lane(
        _lane_name(node.at("environment")),
        True,
        "incomplete" if verdict == "unusable" else verdict,
        strict,
        _date(node),
        _environment(node),
        _limits(node),
        tuple(sorted({item.plain() for item in node.items("broken")})),
        node.flag("quick"),
        (_shard(node.at("shard")),) if node.has("shard") else (),
    )
    cells: Dict[Key, Cell] = {}
    levels: Dict[Key, str] = {}
    files: Dict[Artifact, FrozenSet[FileFacts]] = {}
    node.at("artifacts").must_be(list)
    for entry in node.items("artifacts"):
        artifact = entry.name("path"), entry.text("variant", "")
        if entry.has("file"):
            files[artifact] = files.get(artifact, frozenset()) | {_file(entry.at("file"))}
        for check, level, cell in _checks(entry, strict):
            key = (*artifact, check)
            cells[key] = matrix.worse(cells.get(key, cell), cell)
            levels[key] = min(level, levels.get(key, level), key=LEVELS.index)
    return Part(node.source, _subject(node), lane, cells, levels, files)


def _subject(node: _Node) -> Tuple[str, str]:
    subject = node.at("subject")
    return subject.name("digest"), subject.name("name")


def _shard(node: _Node) -> Shard:
    found = Shard(node.number("number", 0), node.number("of", 0), node.number("files", 0))
    if not 1 <= found.number <= found.of <= found.files:
        node.fail("is no share of several machines")
    return found


def _date(node: _Node) -> str:
    date = node.text("date", "")
    if date and not re.fullmatch(r"\d{4}-\d\d-\d\d", date):
        node.at("date").fail(f"is {date[:40]!r}, not like 2026-11-25")
    return date


def _lane_name(environment: _Node) -> str:
    """The lane's name from the versions of Python and torch."""
    found: Dict[str, str] = {}
    for fact in ("python", "torch"):
        version = environment.text(fact)
        try:
            release = Version(version).release
        except InvalidVersion:
            environment.at(fact).fail(f"is {version[:40]!r}, no version")
        found[fact] = ".".join(map(str, (*release, 0)[:2]))
    if not found["python"].startswith("3."):
        environment.at("python").fail(f"is {found['python']}, no Python 3")
    return facts.lane(found)


def _environment(node: _Node) -> Mapping[str, str]:
    return {name: value.plain() for name, value in node.members("environment") if name not in UNCOMPARED}


def _limits(node: _Node) -> Mapping[str, int]:
    return {name: int(value.must_be(int)) for name, value in node.members("limits") if value.value is not None}


def _file(node: _Node) -> FileFacts:
    return FileFacts(node.number("opset", -1), node.number("ir_version", -1), node.text("producer", ""))


def _checks(entry: _Node, strict: bool) -> List[Tuple[str, str, Cell]]:
    """Id, level and cell of each check of an artifact; an artifact without checks has one cell of `FILE_CHECK`."""
    verdict = entry.one_of("verdict", ARTIFACT_VERDICTS)
    found = [(check.name("id"), check.one_of("level", LEVELS), _cell(check, strict)) for check in entry.items("checks")]
    if verdict == "unusable" or not found:
        reason = entry.text("reason", "") or "no check ran"
        found.append((matrix.FILE_CHECK, MUST, Cell(matrix.INCOMPLETE, (Detail(reason=reason),))))
    return found


def _cell(check: _Node, strict: bool) -> Cell:
    outcome = check.one_of("outcome", OUTCOMES)
    level = check.one_of("level", LEVELS)
    findings = tuple(
        Detail(item.one_of("level", LEVELS), item.text("message") or "has no message.")
        for item in check.items("findings")
    )
    if OLD_WORDS.get(outcome, outcome) == matrix.KNOWN_FAILURE:
        return Cell(matrix.KNOWN_FAILURE, _distinct(_known_failure(check, findings)))
    if outcome == "failed" and not findings:
        findings = (Detail(level, "failed, and its report has no finding."),)
    if any(finding.level == MUST or (strict and finding.level == SHOULD) for finding in findings):
        return Cell(matrix.VIOLATES, _distinct(findings))
    if outcome in ("error", "skipped"):
        because = Detail(reason=check.text("reason", "") or "its report gives no reason")
        return Cell(_not_run(outcome, check.flag("incomplete")), _distinct((*findings, because)))
    return Cell(matrix.NOTED if findings else matrix.CONFORMS, _distinct(findings))


def _not_run(outcome: str, incomplete: bool) -> str:
    return matrix.ERROR if outcome == "error" else matrix.INCOMPLETE if incomplete else matrix.SKIPPED


def _known_failure(check: _Node, findings: Sequence[Detail]) -> Sequence[Detail]:
    reason, link = "", ""
    for key in ("known_failure", "debt"):
        if check.has(key):
            reason, link = check.at(key).text("reason", ""), check.at(key).text("link", "")
            break
    reason = reason or check.text("reason", "") or "its report gives no reason"
    return [Detail(item.level, item.message, reason, link) for item in findings] or [Detail(reason=reason, link=link)]


def _distinct(items: Sequence[Detail]) -> Tuple[Detail, ...]:
    return tuple(sorted(set(items)))


# --- matrices -------------------------------------------------------------------------------------------------------


def _matrix(node: _Node) -> List[Part]:
    """One part per lane of a matrix merged before, as `matrix.to_json` writes it."""
    model = _subject(node)
    lanes: Dict[str, Lane] = {}
    if not node.at("lanes").must_be(list):
        node.at("lanes").fail("is empty")
    for item in node.items("lanes"):
        lane = _matrix_lane(item)
        if lane.name in lanes:
            item.fail(f"is {lane.name} again")
        lanes[lane.name] = lane
    cells: Dict[str, Dict[Key, Cell]] = {name: {} for name in lanes}
    levels: Dict[str, Dict[Key, str]] = {name: {} for name in lanes}
    files: Dict[str, Dict[Artifact, FrozenSet[FileFacts]]] = {name: {} for name in lanes}
    for entry in node.items("artifacts"):
        artifact = entry.name("path"), entry.text("variant", "")
        for name, item in entry.members("files"):
            _known(item, name, lanes)
            files[name][artifact] = frozenset(_file(declared) for declared in item.entries())
        for check in entry.items("checks"):
            key = (*artifact, check.name("id"))
            for name, cell in _matrix_cells(check, lanes):
                cells[name][key] = matrix.worse(cells[name].get(key, cell), cell)
                levels[name][key] = check.one_of("level", LEVELS)
    return [Part(node.source, model, lanes[name], cells[name], levels[name], files[name]) for name in lanes]


def _known(node: _Node, name: str, lanes: Mapping[str, Lane]) -> None:
    if name not in lanes or not lanes[name].reported:
        node.fail("is of a lane that the file does not list as reported")


def _matrix_lane(node: _Node) -> Lane:
    name = node.text("name")
    if not node.flag("reported"):
        try:
            return Lane(matrix.require_lane(name), False)
        except InputError as error:
            node.fail(f"is wrong: {error}")
    if name != _lane_name(node.at("environment")):
        node.fail(f"is called {name[:40]!r}, but its environment is {_lane_name(node.at('environment'))}")
    verdicts = ("conforms", "violates", "incomplete")
    stated = node.one_of("verdict", verdicts)
    return Lane(
        name,
        True,
        node.one_of("reports", verdicts) if node.has("reports") else stated,  # a shard that lacked then may come now
        node.flag("strict"),
        _date(node),
        _environment(node),
        _limits(node),
        tuple(sorted({item.plain() for item in node.items("broken")})),
        node.flag("quick"),
        tuple(sorted({_shard(item) for item in node.items("shards")})),
    )


def _matrix_detail(node: _Node) -> Detail:
    level = node.one_of("level", LEVELS) if node.has("level") else ""
    return Detail(level, node.text("message", ""), node.text("reason", ""), node.text("link", ""))


def _matrix_cells(check: _Node, lanes: Mapping[str, Lane]) -> Iterator[Tuple[str, Cell]]:
    for group in check.items("cells"):
        details = tuple(_matrix_detail(item) for item in group.items("said"))
        state = group.text("state")
        kind = matrix.kind_of(OLD_WORDS.get(state, state), group.text("why", "") or None, details)
        if kind is None:
            group.fail("has a state that no cell can have")
        for item in group.items("lanes"):
            _known(item, item.plain(), lanes)
            yield item.plain(), Cell(kind, _distinct(details))
