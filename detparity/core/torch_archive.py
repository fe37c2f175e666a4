"""The zip archive that torch writes, as bounded bytes by name: nothing in it is decoded here. Uses the standard library alone.

`torch.save` (since 1.6), TorchScript and lite archives have this form: a top folder, pickles in it, and raw storages, none compressed.
"""

from __future__ import annotations

import struct
import zipfile
import zlib
from pathlib import Path
from types import TracebackType
from typing import Dict, Iterable, Optional, Tuple, Type

MAX_PICKLE_BYTES = 16 << 20  # the largest official architecture with its EMA needs 2 MB
MAX_DIRECTORY_BYTES = 16 << 20  # of the list of members: enough for a hundred thousand
_ENCRYPTED = 0x2041
# What zipfile raises on damaged archives (RuntimeError: NotImplementedError for features it lacks).
BROKEN_ZIP = (
    *(zipfile.BadZipFile, zlib.error, OSError, EOFError, ValueError, RuntimeError, struct.error, OverflowError),
    *(MemoryError, KeyError, IndexError),
)


class Refused(Exception):
    """Why a file is refused, without its name."""


class Archive:
    """The members of an archive by their name below its one top folder.

    torch stores members without compression, so together they fit in the file: that alone bounds what reading
    any of them can cost, and rules out zip bombs, nested, overlapping or plain. what: what the file should be, for messages.
    """

    def __init__(self, path: Path, what: str = "a checkpoint") -> None:
        self.size = path.stat().st_size
        self._file = open_zip(path)
        self._members: Dict[str, zipfile.ZipInfo] = {}
        try:
            self._list(what)
        except BaseException:
            self._file.close()
            raise

    def _list(self, what: str) -> None:
        tops = set()
        for info in self._file.infolist():
            top, inner = _split_name(info)
            tops.add(top)
            if inner in self._members:
                raise Refused(f"holds the member {quoted(info.filename)} twice")
            self._members[inner] = info
        if len(tops) > 1:
            raise Refused(f"is not {what}: its members are in several top folders")

    def __enter__(self) -> Archive:
        return self

    def __exit__(
        self, kind: Optional[Type[BaseException]], error: Optional[BaseException], trace: Optional[TracebackType]
    ) -> None:
        self._file.close()

    def __contains__(self, name: str) -> bool:
        return name in self._members

    def require_plain(self, every: bool = True) -> None:
        """Raise Refused unless members are stored as they are and all of them fit in the file. every: False where some may be
        compressed, as source code in TorchScript is; those are never read."""
        plain = [info for info in self._members.values() if every or info.compress_type == zipfile.ZIP_STORED]
        for info in plain:
            _require_plain(info)
        if sum(info.file_size for info in plain) > self.size:
            raise Refused("declares members that are larger than the file")

    def read(self, name: str) -> bytes:
        info = self._members[name]
        _require_plain(info)
        if info.CRC == 0:
            # torch.serialization.set_crc32_options(False) writes 0 for "not computed", zipfile's None.
            info.CRC = None  # type: ignore[assignment]
        try:
            data = self._file.read(info)
        except BROKEN_ZIP as error:
            reason = one_line(error)
            raise Refused(f"holds the damaged member {quoted(info.filename)} ({reason})") from None
        if len(data) != info.file_size:
            raise Refused(f"holds the truncated member {quoted(info.filename)}")
        return data

    def read_pickle(self, name: str) -> bytes:
        if self._members[name].file_size > MAX_PICKLE_BYTES:
            raise Refused(f"its {name} is larger than {MAX_PICKLE_BYTES >> 20} MiB")
        return self.read(name)


def _require_plain(info: zipfile.ZipInfo) -> None:
    if info.compress_type != zipfile.ZIP_STORED or info.compress_size != info.file_size:
        raise Refused(f"holds the compressed member {quoted(info.filename)}; torch compresses none")
    if info.flag_bits & _ENCRYPTED:
        raise Refused(f"holds the encrypted member {quoted(info.filename)}")


def open_zip(path: Path) -> zipfile.ZipFile:
    """Open an archive whose list of members is bounded. Raises Refused."""
    try:
        with path.open("rb") as stream:
            end = zipfile._EndRecData(stream)  # type: ignore[attr-defined]
        if end and end[zipfile._ECD_SIZE] > MAX_DIRECTORY_BYTES:  # type: ignore[attr-defined]
            raise Refused("is a zip archive of more members than any model has")
        return zipfile.ZipFile(path)
    except BROKEN_ZIP as error:
        raise Refused(f"is a truncated or damaged zip archive ({one_line(error)})") from None


def _split_name(info: zipfile.ZipInfo) -> Tuple[str, str]:
    name = info.orig_filename
    parts = name.split("/")
    if len(parts) < 2 or not {"", ".", ".."}.isdisjoint(parts) or "\\" in name or "\0" in name:
        raise Refused(f"holds a member with the name {quoted(name)}, which torch.save does not write")
    return parts[0], "/".join(parts[1:])


def quoted(text: str) -> str:
    """Text out of the file for a message: one line, of bounded length."""
    return repr(text if len(text) <= 80 else text[:77] + "...")


def one_line(error: BaseException) -> str:
    words: Iterable[str] = f"{type(error).__name__}: {error}".split()
    return " ".join(words)[:160]
