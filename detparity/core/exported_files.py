"""The exported files of a folder, and the share that one machine of several judges. Decided with the standard library alone."""

from __future__ import annotations

import os
import re
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Dict, List, Optional, Sequence, Set, Tuple

from detparity.core.errors import InputError
from detparity.core.file_kind import CHECKPOINTS, kind
from detparity.core.runtimes import runtime_files

ENDINGS = (".onnx", ".pt", ".pth", ".torchscript", ".ptl", ".tflite", ".pte", ".mnn")
_TORCH = (".pt", ".pth")  # of checkpoints as well
MOST = 100_000  # entries of a folder, and what lies below it
_SHARD = re.compile(r"([1-9]\d{0,5})/([1-9]\d{0,5})")


def exported_files(paths: Sequence[Path]) -> List[Path]:
    """The paths, each folder replaced by the exported files in it and below, sorted; links are followed, to each folder once. A folder
    that is a model of a runtime remains, and one that holds no exported file; checkpoints and what starts with a point are left out.

    Raises InputError for a folder that cannot be read or holds too much, and for an empty path, as an unset variable gives."""
    found: List[Path] = []
    for path in paths:
        below = _below(path) if path.is_dir() and runtime_files(path) is None else []
        found += below or [path]
    return list(dict.fromkeys(found))


def _below(folder: Path) -> List[Path]:
    found: List[Path] = []
    seen = 0
    known: Set[str] = set()
    for folder_path, folders, names in os.walk(str(folder), onerror=_unreadable, followlinks=True):
        real = os.path.realpath(folder_path)
        if real in known:
            folders.clear()
            continue
        known.add(real)
        seen += len(folders) + len(names)
        if seen > MOST:
            raise InputError(
                f"{folder} holds more than {MOST:,} files and folders: name those that hold the exported files"
            )
        models = [name for name in folders if runtime_files(Path(folder_path, name)) is not None]
        found += [Path(folder_path, name) for name in models if not name.startswith(".")]
        folders[:] = [name for name in folders if not name.startswith(".") and name not in models]
        found += [Path(folder_path, name) for name in names if _is_exported(Path(folder_path, name))]
    return sorted(found)


def _unreadable(error: OSError) -> None:
    raise InputError(f"{error.filename} cannot be read: {error.strerror}")


def _is_exported(path: Path) -> bool:
    ending = path.suffix.lower()
    if path.name.startswith(".") or ending not in ENDINGS:
        return False
    if not path.exists():
        return path.is_symlink()  # to nothing, which its own entry says
    if not path.is_file():
        return False
    try:
        return ending not in _TORCH or kind(path) not in CHECKPOINTS
    except InputError:  # it cannot be read, which its own entry says
        return True


def shard_of(text: str) -> Tuple[int, int]:
    """`2/4` as (2, 4). Raises InputError."""
    match = _SHARD.fullmatch(text)
    number, count = map(int, match.groups()) if match else (0, 0)
    if not 1 <= number <= count:
        raise InputError(f"--shard {text!r} is not of the form 2/4, the second of four shards")
    return number, count


@dataclass(frozen=True, order=True)
class Shard:
    """The share of one machine: `number` of `of`, of so many files."""

    number: int
    of: int
    files: int


def share_record(share: Optional[Shard]) -> Dict[str, Dict[str, int]]:
    """What a report states of it: nothing where all was judged."""
    return {} if share is None else {"shard": asdict(share)}


def shard(files: Sequence[Path], text: Optional[str]) -> Tuple[List[Path], Optional[Shard]]:
    """Every n-th file of the sorted ones, from the i-th on, for `i/n`; all of them without. Raises InputError where that is none:
    nothing would be judged, and called good."""
    if text is None:
        return list(files), None
    number, count = shard_of(text)
    if count > len(files):
        raise InputError(f"--shard {text}: {len(files)} file{'s' * (len(files) != 1)} cannot be shared by {count}")
    return sorted(files)[number - 1 :: count], Shard(number, count, len(files))
