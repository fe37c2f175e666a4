"""Reading and writing files: completely or not at all."""

from __future__ import annotations

import os
import stat
import sys
import tempfile
from contextlib import contextmanager
from pathlib import Path
from typing import Callable, Iterator, Optional

from detparity.core.errors import InputError

STDOUT = Path("-")  # as an output: standard output


def write_atomic(path: Path, write: Callable[[Path], None]) -> None:
    """Call `write` with a temporary name beside `path`, then rename it to `path`; on any error nothing is left behind.

    Raises InputError where the folder is missing, cannot be written to, or is full.
    """
    temporary: Optional[Path] = None
    try:
        handle, name = tempfile.mkstemp(prefix=f".{path.name[:60]}.", dir=str(path.parent))
        temporary = Path(name)
        os.close(handle)
        write(temporary)
        temporary.chmod(0o644)
        os.replace(temporary, path)
    except OSError as error:
        raise InputError(f"cannot write {path}: {error.strerror or error}") from None
    finally:
        if temporary is not None and temporary.exists():
            temporary.unlink()


def write_text(path: Path, text: str) -> None:
    """Write text as UTF-8; what UTF-8 cannot hold, such as bytes of a file name, is spelled out."""
    write_bytes(path, text.encode("utf-8", "backslashreplace"))


def write_bytes(path: Path, content: bytes) -> None:
    """Write `content`: to a regular file completely or not at all, to a device or a pipe directly, and to `-` on standard output.

    Raises InputError where that fails.
    """
    try:
        if path == STDOUT:
            sys.stdout.flush()
            sys.stdout.buffer.write(content)
            sys.stdout.buffer.flush()
            return
        if not _is_regular(path):
            with path.open("wb") as stream:
                stream.write(content)
            return
    except BrokenPipeError:
        raise
    except OSError as error:
        raise InputError(f"cannot write {path}: {error.strerror or error}") from None

    def write(temporary: Path) -> None:
        temporary.write_bytes(content)

    write_atomic(path, write)


def _is_regular(path: Path) -> bool:
    """Whether a path is a regular file, or becomes one. A link counts as what it points at, and is itself replaced."""
    try:
        return stat.S_ISREG(path.stat().st_mode)
    except FileNotFoundError:
        return True


def sha256(path: Path) -> str:
    import hashlib  # of what starting costs, a tenth

    total = hashlib.sha256()
    with path.open("rb") as stream:
        for block in iter(lambda: stream.read(1 << 20), b""):
            total.update(block)
    return total.hexdigest()


def require_file(path: Path, what: str) -> None:
    """Raise InputError unless `path` is a non-empty regular file."""
    try:
        if path.is_dir():
            raise InputError(f"{path} is a directory, not {what}")
        if not path.exists():
            raise InputError(f"{path}: no such file")
        if not path.is_file():
            raise InputError(f"{path} is a device or a pipe, not {what}")
        with path.open("rb") as stream:
            if not stream.read(1):
                raise InputError(f"{path} is empty")
    except OSError as error:
        raise InputError(f"{path} cannot be read: {error.strerror}") from None
    except ValueError as error:  # a name that no file can have
        raise InputError(f"{str(path)!r} is no file name: {error}") from None


@contextmanager
def locked(path: Path) -> Iterator[None]:
    """Hold the lock file `path` for the length of a block; processes wait for each other.

    Raises InputError where the lock file cannot be made.
    """
    try:
        stream = path.open("ab")
    except OSError as error:
        raise InputError(f"cannot write {path}: {error.strerror}") from None
    with stream:
        try:
            import fcntl
        except ImportError:  # not a POSIX system: one process at a time is the caller's matter
            yield
            return
        fcntl.flock(stream, fcntl.LOCK_EX)
        yield
