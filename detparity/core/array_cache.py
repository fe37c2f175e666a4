"""A folder of arrays that took long to work out, by key: bounded in size, shared by processes, safe to delete at any time.

An entry is one file, which appears complete, by renaming, whose parts carry checksums, and which holds its key. One that cannot be
read, or is another's under its name, is removed and counts as missing.
"""

from __future__ import annotations

import contextlib
import hashlib
import io
import os
import stat
import sys
import time
from dataclasses import dataclass
from pathlib import Path
from typing import Dict, Iterator, List, Mapping, Optional, Tuple

import numpy as np

from detparity.core.errors import InputError
from detparity.core.files import write_atomic

LIMIT_BYTES = 2_000_000_000
SUFFIX = ".detparity.npz"
KEY = "key"  # the part of an entry that says what it is of
ABANDONED = 600.0  # seconds after which what is being written has been given up


def default_folder() -> Path:
    """The folder of the user's caches by the custom of the system (XDG base directories, elsewhere its own), and in it ours. Raises
    InputError for a user without a home."""
    try:
        home = Path.home()
    except RuntimeError:
        raise InputError("this user has no home folder: --cache DIR names one for references") from None
    if sys.platform == "darwin":
        base = home / "Library" / "Caches"
    elif sys.platform == "win32":
        base = Path(os.environ.get("LOCALAPPDATA") or home / "AppData" / "Local")
    else:
        base = Path(os.environ.get("XDG_CACHE_HOME") or home / ".cache")
    return base / "detparity"


def default_cache() -> Optional[ArrayCache]:
    """The cache in that folder; None for a user without a home."""
    try:
        return ArrayCache(default_folder())
    except InputError:
        return None


@dataclass(frozen=True)
class ArrayCache:
    """folder: made when the first entry is written; limit: bytes of all entries, of which the longest unused are removed first."""

    folder: Path
    limit: int = LIMIT_BYTES

    def path(self, key: str) -> Path:
        return self.folder / f"{hashlib.sha256(key.encode()).hexdigest()[:32]}{SUFFIX}"

    def find(self, key: str) -> Optional[Dict[str, np.ndarray]]:
        """The arrays of an entry, or None where there is none."""
        path = self.path(key)
        try:
            if not path.is_file():  # nothing, or what opening would wait for
                return None
            with path.open("rb") as stream, np.load(stream, allow_pickle=False) as stored:
                found = {name: stored[name] for name in stored.files}  # every part is read, and its checksum compared
            if str(found.pop(KEY)) != key:
                raise ValueError("it is another's")
        except (FileNotFoundError, PermissionError):
            return None
        except Exception:  # numpy and zipfile have no common one for a file that was damaged
            self.remove(key)
            return None
        with contextlib.suppress(OSError):
            os.utime(str(path))  # the last use decides what is removed
        return found

    def leave(self, key: str, arrays: Mapping[str, np.ndarray]) -> None:
        """Write an entry. Raises InputError where the folder cannot be written to."""
        written = io.BytesIO()
        np.savez(written, **arrays, **{KEY: np.array(key)})  # type: ignore[arg-type]  # its stubs know one keyword
        if written.tell() > self.limit:
            return
        try:
            self.folder.mkdir(parents=True, exist_ok=True)
        except OSError as error:
            raise InputError(f"cannot write {self.folder}: {error.strerror or error}") from None
        write_atomic(self.path(key), lambda temporary: _write(temporary, written.getvalue()))
        self._trim()

    def remove(self, key: str) -> None:
        _unlink(self.path(key))

    def entries(self) -> List[Path]:
        """The files of all entries, the longest unused first."""
        return [path for _, path in sorted(self._files(f"*{SUFFIX}"))]

    def nbytes(self) -> int:
        """What all entries take, and what writers that were killed have left."""
        return sum(map(_size, [*self.entries(), *self._abandoned()]))

    def clear(self) -> int:
        """Remove every entry, and what is left of writing others; return how many entries there were. Raises InputError where one
        cannot be removed."""
        entries = self.entries()
        for path in [*entries, *self._abandoned()]:
            try:
                path.unlink()
            except FileNotFoundError:  # another process removed it meanwhile
                continue
            except OSError as error:
                raise InputError(f"cannot remove {path}: {error.strerror or error}") from None
        return len(entries)

    def _files(self, pattern: str) -> Iterator[Tuple[float, Path]]:
        """Files and links of such a name, with when they were last used."""
        for path in self.folder.glob(pattern):
            with contextlib.suppress(OSError):  # another process removed it meanwhile
                about = path.lstat()
                if not stat.S_ISDIR(about.st_mode):
                    yield about.st_mtime, path

    def _abandoned(self) -> List[Path]:
        now = time.time()
        return [path for used, path in self._files(f".*{SUFFIX}.*") if now - used > ABANDONED]

    def _trim(self) -> None:
        for path in self._abandoned():
            _unlink(path)
        entries = self.entries()
        sizes = list(map(_size, entries))
        over = sum(sizes) - self.limit
        for path, size in zip(entries, sizes):
            if over <= 0:
                return
            _unlink(path)
            over -= size


def _write(path: Path, content: bytes) -> None:
    path.write_bytes(content)


def _unlink(path: Path) -> None:
    with contextlib.suppress(
        OSError
    ):  # removed meanwhile, or a folder of somebody else's: the entry is worked out again
        path.unlink()


def _size(path: Path) -> int:
    try:
        return path.lstat().st_size
    except OSError:
        return 0
