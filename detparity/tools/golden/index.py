"""The golden folder: small recorded facts, and INDEX.json with the test that uses each and the reason of its content.

A recorded golden is written by `detparity review accept` and `detparity golden record` alone, an authored one (kind `nms`) by
hand alone. The index holds the digest of every recorded file, so that neither can be changed without the other.
"""

from __future__ import annotations

import contextlib
import datetime
import hashlib
import json
import math
import re
import tempfile
from collections import Counter
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any, Collection, Dict, List, Mapping, Optional, Sequence, Tuple

from detparity.core.errors import InputError, clipped
from detparity.core.files import locked, write_text

SCHEMA = 1
INDEX = "INDEX.json"
RECORDED = ("detections", "graph", "runtime", "values")
AUTHORED = ("nms",)
KINDS = (*AUTHORED, *RECORDED)
CAP = 50_000  # bytes: what a person can review, and a text diff can show
LINE = 110  # a list or table without others inside is on one line up to this width
NAME = re.compile(r"[a-z]+/[A-Za-z0-9][A-Za-z0-9._-]*(@py\d+-torch\d+\.\d+)?")


@dataclass(frozen=True)
class Entry:
    """One golden. file: its path in the golden folder; kind: one of `KINDS`; test: what uses it; lane: where it was recorded (None:
    authored); why: the reason of its content; versions: what recorded it; sha256: of a recorded file."""

    file: str
    kind: str
    test: str
    lane: Optional[str]
    why: str
    date: str
    versions: Mapping[str, str] = field(default_factory=dict)
    sha256: Optional[str] = None

    @property
    def name(self) -> str:
        """The file without its ending: `graph/grid`, or `graph/grid@py39-torch1.7` for one lane's own."""
        return self.file[: -len(".json")]

    @property
    def asked(self) -> str:
        """The name that tests use: without the lane."""
        return self.name.split("@")[0]


def canonical(content: Any) -> str:
    """The one text of `content`: keys sorted, one fact a line, a list or table without others inside it on one line."""
    return _text(content, 0) + "\n"


def _text(value: Any, depth: int) -> str:
    plain = json.dumps(value, sort_keys=True, ensure_ascii=False, allow_nan=False)
    if not isinstance(value, (dict, list, tuple)) or not value:
        return plain
    inner = value.values() if isinstance(value, dict) else value
    if len(plain) <= LINE and not any(isinstance(item, (dict, list, tuple)) for item in inner):
        return plain
    pad = " " * (depth + 1)
    if isinstance(value, dict):
        lines = [f"{pad}{json.dumps(key, ensure_ascii=False)}: {_text(value[key], depth + 1)}" for key in sorted(value)]
        return "{\n" + ",\n".join(lines) + "\n" + " " * depth + "}"
    return "[\n" + ",\n".join(pad + _text(item, depth + 1) for item in value) + "\n" + " " * depth + "]"


def digest(text: str) -> str:
    return hashlib.sha256(text.encode()).hexdigest()


def read_json(path: Path, what: str) -> Any:
    """Return what a JSON file holds. Raises InputError, in one line, where it cannot be read."""
    try:
        if path.stat().st_size > 20 * CAP:
            raise InputError(f"{path} is larger than {what} can be")
        found = json.loads(path.read_text(encoding="utf-8"), parse_float=_finite, parse_constant=_finite)
        require_encodable(found, str(path))
        return found
    except FileNotFoundError:
        raise InputError(f"{path}: no such file") from None
    except (OSError, ValueError, RecursionError) as error:
        raise InputError(f"{path} is not {what}: {clipped(error)}") from None


def _finite(text: str) -> float:
    """A number of a golden: JSON has no NaN and no infinity, although Python reads and writes them."""
    if not math.isfinite(float(text)):
        raise ValueError(f"{text} is no number of a golden")
    return float(text)


def make_folder(folder: Path) -> None:
    """Make a folder and those above it. Raises InputError where that is not possible."""
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise InputError(f"cannot write {folder}: {error.strerror}") from None


def require_encodable(value: Any, where: str) -> None:
    """Raise InputError for a text that UTF-8 cannot hold, wherever in the value it is: JSON can spell half a character."""
    if isinstance(value, str):
        try:
            value.encode()
        except UnicodeEncodeError:
            raise InputError(f"{where} holds a text that is not Unicode") from None
    elif isinstance(value, dict):
        for key, item in value.items():
            require_encodable(key, where)
            require_encodable(item, where)
    elif isinstance(value, list):
        for item in value:
            require_encodable(item, where)


def read_index(folder: Path) -> Tuple[Entry, ...]:
    """Return the entries of the folder's index, none where the folder has no index yet. Raises InputError where it cannot be
    used."""
    path = folder / INDEX
    if not path.exists():
        return ()
    found = read_json(path, "an index of goldens")
    if not isinstance(found, dict) or found.get("schema") != SCHEMA or not isinstance(found.get("goldens"), list):
        raise InputError(f"{path} is not an index of goldens: it wants `schema` {SCHEMA} and a list `goldens`")
    return tuple(_entry(path, number, record) for number, record in enumerate(found["goldens"]))


def _entry(path: Path, number: int, record: Any) -> Entry:
    where = f"{path}: entry {number}"
    if not isinstance(record, dict):
        raise InputError(f"{where} is not a table")
    where += f" ({record['file']})" if isinstance(record.get("file"), str) else ""
    known = set(Entry.__dataclass_fields__)
    extra, missing = sorted(set(record) - known), sorted(known - {"sha256"} - set(record))
    if extra or missing:
        raise InputError(f"{where} has unknown {extra} and lacks {missing}" if extra else f"{where} lacks {missing}")
    texts = ("file", "kind", "test", "why", "date")
    wrong = [key for key in texts if not isinstance(record[key], str) or not record[key].strip()]
    wrong += [key for key in ("lane", "sha256") if not isinstance(record.get(key), (str, type(None)))]
    if not isinstance(record["versions"], dict):
        wrong.append("versions")
    if wrong:
        raise InputError(f"{where}: {', '.join(wrong)} must be given")
    entry = Entry(**record)
    if not entry.file.endswith(".json") or not NAME.fullmatch(entry.name) or ".." in entry.file:
        raise InputError(f"{where}: `file` is no name of a golden, such as graph/grid.json")
    if entry.kind not in KINDS or entry.file.split("/")[0] != entry.kind:
        raise InputError(f"{where}: `kind` is {clipped(entry.kind)}, and the folder says {entry.file.split('/')[0]}")
    try:
        datetime.date.fromisoformat(entry.date)
    except ValueError:
        raise InputError(f"{where}: `date` is {clipped(entry.date)}, not a day such as 2026-11-26") from None
    return entry


def write_index(folder: Path, entries: Sequence[Entry]) -> None:
    """Write the index, sorted by file; what an entry has not is left out."""
    records = [
        {key: value for key, value in asdict(entry).items() if key != "sha256" or value is not None}
        for entry in sorted(entries, key=lambda entry: entry.file)
    ]
    write_text(folder / INDEX, canonical({"schema": SCHEMA, "goldens": records}))


def problems(folder: Path, asked: Optional[Collection[str]] = None) -> List[str]:
    """Every disagreement of the folder and its index, a sentence each.

    asked: the names that tests use, where that is known; a recorded golden beside them is unused. Raises InputError for an index
    that cannot be read.
    """
    entries = read_index(folder)
    found: List[str] = []
    for file, count in sorted(Counter(entry.file for entry in entries).items()):
        if count > 1:
            found.append(f"{file} is listed {count} times in {INDEX}")
    there = {path.relative_to(folder).as_posix() for kind in KINDS for path in (folder / kind).glob("**/*")}
    listed = {entry.file for entry in entries}
    found += [f"{file} is not listed in {INDEX}" for file in sorted(there - listed)]
    for entry in entries:
        if entry.file not in there:
            found.append(f"{entry.file} is listed in {INDEX}, and there is no such file")
        else:
            found += _file_problems(folder, entry)
        if asked is not None and entry.kind in RECORDED and entry.asked not in asked:
            found.append(
                f"{entry.file} is unused: no test asks for it (`detparity golden remove {entry.name}` removes it)"
            )
    return found


def _file_problems(folder: Path, entry: Entry) -> List[str]:
    path = folder / entry.file
    size = path.stat().st_size
    if size > CAP:
        return [f"{entry.file} has {size} bytes; a golden has {CAP} at most"]
    if entry.kind in AUTHORED:
        return [] if entry.sha256 is None else [f"{entry.file} is authored, so {INDEX} holds no digest of it"]
    if entry.sha256 is None or entry.lane is None:
        return [f"{INDEX} lacks the digest or the lane of {entry.file}"]
    text = path.read_text(encoding="utf-8", errors="replace")
    if digest(text) != entry.sha256:
        return [
            f"{entry.file} or its entry was changed by hand: its digest is not the one in {INDEX}. Restore both, "
            "and let `detparity review accept` write what is intended"
        ]
    return []


def find(entries: Sequence[Entry], name: str, lane: str) -> Optional[Entry]:
    """The golden of this name: this lane's own, else the one for all lanes."""
    own = {entry.name: entry for entry in entries}
    return own.get(f"{name}@{lane}") or own.get(name)


def content_of(folder: Path, entry: Entry) -> Dict[str, Any]:
    """Return what a golden holds. Raises InputError where it cannot be read or disagrees with the index."""
    wrong = _file_problems(folder, entry) if (folder / entry.file).is_file() else [f"{entry.file}: no such file"]
    if wrong:
        raise InputError(f"{folder}: {wrong[0]}")
    content = read_json(folder / entry.file, "a golden")
    if not isinstance(content, dict):
        raise InputError(f"{folder / entry.file} is not a golden: it holds no table")
    return content


def _lock_of(folder: Path) -> Path:
    """The lock that is held while the index of this folder is read, changed and written: not in the folder, which is under version
    control."""
    return Path(tempfile.gettempdir()) / f"detparity-golden-{digest(str(folder.resolve()))[:24]}.lock"


def store(folder: Path, entry: Entry, content: Mapping[str, Any]) -> Entry:
    """Write a recorded golden and its entry; returns the entry as written. Raises InputError for an authored kind or a content
    over the cap."""
    if entry.kind not in RECORDED:
        raise InputError(f"{entry.file} is authored: it is written by hand, never by a tool")
    text = canonical(content)
    if len(text.encode()) > CAP:
        raise InputError(f"{entry.file} would have {len(text.encode())} bytes; a golden has {CAP} at most")
    written = Entry(**{**asdict(entry), "sha256": digest(text)})
    path = folder / entry.file
    make_folder(path.parent)
    with locked(_lock_of(folder)):  # others may store here at the same time
        others = [other for other in read_index(folder) if other.file != entry.file]
        write_text(path, text)
        write_index(folder, [*others, written])
    return written


def discard(folder: Path, name: str) -> None:
    """Remove a recorded golden and its entry. Raises InputError where there is none, or it is authored."""
    entries = read_index(folder)
    if not any(entry.name == name for entry in entries):
        raise InputError(f"{folder} holds no golden called {clipped(name)}")
    with locked(_lock_of(folder)):
        entries = read_index(folder)
        found = [entry for entry in entries if entry.name == name]
        if found and found[0].kind in AUTHORED:
            raise InputError(f"{name} is authored: remove its file and its entry by hand")
        write_index(folder, [entry for entry in entries if entry.name != name])
        for entry in found:
            with contextlib.suppress(FileNotFoundError):  # the entry was all there was
                (folder / entry.file).unlink()
