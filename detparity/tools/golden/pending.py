"""Goldens that wait for review: one file each, outside the golden folder, with everything a reviewer needs, so that it can come from
another machine."""

from __future__ import annotations

import os
import tempfile
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any, List, Mapping, Optional, Tuple

from detparity.core.errors import InputError, clipped
from detparity.core.files import write_text
from detparity.tools.golden.index import NAME, RECORDED, canonical, read_json

SCHEMA = 1
FOLDER = ".pending"
VARIABLE = "DETPARITY_PENDING"


@dataclass(frozen=True)
class Pending:
    """One golden to review. name: of the golden (`graph/grid`); was: the digest of the golden it was compared with, None where there
    is none yet; words, same: what changed (`compare.Changed`); parity: outcome by check of the file against the model; lost: the
    message of the first that did not pass; seen: detections to draw, {"before", "now"}; drawn: what the former is."""

    name: str
    kind: str
    subject: str
    test: str
    repeat: str
    lane: str
    versions: Mapping[str, str]
    was: Optional[str]
    content: Mapping[str, Any]
    words: Tuple[str, ...]
    same: str
    parity: Mapping[str, str]
    lost: str = ""
    seen: Mapping[str, Any] = field(default_factory=dict)
    drawn: str = ""

    @property
    def holds(self) -> bool:
        """Whether the file was shown to do what the model does: every check that decides on it passed."""
        return bool(self.parity) and set(self.parity.values()) == {"passed"}


def folder_for(golden: Path, asked: Optional[Path] = None) -> Path:
    """The folder of pending files: as given, else the environment's `DETPARITY_PENDING`, else `.pending` beside the golden folder; in
    CI, which must not change the tree, a folder of the system's own for temporary files."""
    if asked is not None:
        return asked
    if os.environ.get(VARIABLE):
        return Path(os.environ[VARIABLE])
    if os.environ.get("CI"):
        return Path(tempfile.gettempdir()) / "detparity-pending"
    return golden.resolve().parent / FOLDER


def path_of(folder: Path, name: str) -> Path:
    return folder / f"{name}.json"


def write(folder: Path, pending: Pending) -> Path:
    """Write a pending file and return its path. Raises InputError where the folder cannot be written to."""
    path = path_of(folder, pending.name)
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise InputError(f"cannot write {path}: {error.strerror}") from None
    write_text(path, canonical({"schema": SCHEMA, **asdict(pending)}))
    return path


def drop(folder: Path, name: str) -> None:
    """Remove a pending file and its picture."""
    path = path_of(folder, name)
    for one in (path, path.with_suffix(".png")):
        if one.exists():
            one.unlink()


def read(folder: Path) -> List[Pending]:
    """Return the pending goldens of a folder, by name. Raises InputError for a file there that is no pending golden."""
    found = [_read(path) for path in folder.rglob("*.json")] if folder.is_dir() else []
    return sorted(found, key=lambda one: one.name)


def _of_texts(table: Mapping[str, Any]) -> bool:
    return all(isinstance(value, str) for value in table.values())


def _read(path: Path) -> Pending:
    found = read_json(path, "a pending golden")
    what = f"{path} is not a pending golden"
    if not isinstance(found, dict) or found.get("schema") != SCHEMA:
        raise InputError(f"{what}: it wants `schema` {SCHEMA}")
    known = set(Pending.__dataclass_fields__)
    wrong = sorted(known ^ (set(found) - {"schema"}))
    if wrong:
        raise InputError(f"{what}: {clipped(', '.join(wrong))} missing or unknown")
    texts = ("name", "kind", "subject", "test", "repeat", "lane", "same", "lost", "drawn")
    wrong = [key for key in texts if not isinstance(found[key], str)]
    wrong += [key for key in ("versions", "content", "parity", "seen") if not isinstance(found[key], dict)]
    wrong += [key for key in ("versions", "parity") if key not in wrong and not _of_texts(found[key])]
    if not isinstance(found["words"], list) or not all(isinstance(word, str) for word in found["words"]):
        wrong.append("words")
    if wrong:
        raise InputError(f"{what}: {', '.join(wrong)} cannot be used")
    # The name becomes a path in the golden folder, and the file may come from anywhere.
    if not NAME.fullmatch(found["name"]) or found["name"].split("/")[0] != found["kind"]:
        raise InputError(f"{what}: {clipped(found['name'])} is no name of a golden of kind {clipped(found['kind'])}")
    if found["kind"] not in RECORDED:
        raise InputError(f"{what}: goldens of kind {clipped(found['kind'])} are written by hand")
    record = {key: value for key, value in found.items() if key != "schema"}
    return Pending(**{**record, "words": tuple(found["words"])})
