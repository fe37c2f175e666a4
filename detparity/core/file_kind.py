"""What a file is, by its first bytes: decided with the standard library alone, before anything heavy is imported.

`kind` names what is ours to read; `require_checkpoint` and `require_exported` say of anything else what it is and what to do.
"""

from __future__ import annotations

import pickle
from pathlib import Path
from typing import Set, Union

from detparity.core.errors import InputError
from detparity.core.foreign_files import ONNX, Foreign, foreign_folder, foreign_zip, recognised, without_graph
from detparity.core.runtimes import runtime_files
from detparity.core.torch_archive import BROKEN_ZIP, Refused, one_line, open_zip

ZIP_MAGIC = b"PK\x03\x04"
HEAD_BYTES = 4096
# Before 1.6 torch.save wrote bare pickles, the first one the integer 0x1950a86a20f9469cfc6c.
_LEGACY_MAGIC = b"\x8a\x0a\x6c\xfc\x9c\x46\xf9\x20\x6a\xa8\x50\x19"
_LEGACY_BYTES = 64
CHECKPOINTS = ("checkpoint", "legacy")
SCRIPTS = ("torchscript", "lite")
_EXPORTED = "it is an exported model: give it as the file to check, and its checkpoint with --weights"


def kind(path: Union[str, Path]) -> str:
    """Identify a file by its content: `checkpoint`, `torchscript`, `lite`, `legacy` or `other`.

    `lite` is TorchScript with a program for the lite interpreter; `legacy` is the bare pickle that torch.save wrote before 1.6.
    Raises InputError where nothing can be read.
    """
    path = Path(path)
    try:
        head = read_head(path)
        if is_legacy(head):
            return "legacy"
        inner = _members(path) if is_zip(head) else set()
    except Refused as refusal:
        raise InputError(f"{path}: {refusal}") from None
    if "constants.pkl" in inner:
        return "lite" if "bytecode.pkl" in inner else "torchscript"
    return "checkpoint" if "data.pkl" in inner else "other"


def require_checkpoint(path: Path) -> None:
    """Raise InputError, one line, for a file that is recognised as something else than a checkpoint, and where nothing can be read.

    Passing means that nothing is known against it.
    """
    problem = checkpoint_problem(path)
    if problem:
        raise InputError(f"{path} {problem}")


def require_exported(path: Path, runtimes: bool = False) -> None:
    """Raise InputError, one line, for a file that is recognised as something else than an ONNX file, a TorchScript or a lite archive,
    and where nothing can be read. Passing means that nothing is known against it. runtimes: let files of `core.runtimes` pass."""
    if runtimes and runtime_files(path) is not None:
        return
    found = _foreign(path)
    if found is None:
        if kind(path) in CHECKPOINTS:
            raise InputError(f"{path} is a checkpoint, not an exported model; give it with --weights")
        if without_graph(path):
            raise InputError(f"{path} is not an ONNX model or is truncated; copy or export it again")
    elif found != ONNX:
        advice = found.advice or "give the .onnx or TorchScript file"
        other = "" if found.damaged else ", not an exported model that is read here"
        raise InputError(f"{path} is {found.what}{other}; {advice}")


def checkpoint_problem(path: Path) -> str:
    """What a file is in place of a checkpoint and what to do, as a clause about it; empty where nothing is known against it."""
    found = _foreign(path)
    if found is None:
        sort = kind(path)
        if sort not in SCRIPTS:
            return ""
        found = Foreign("a TorchScript archive" if sort == "torchscript" else "a lite archive", _EXPORTED)
    elif found == ONNX:
        found = Foreign(found.what, _EXPORTED)
    other = "" if found.damaged else ", not a checkpoint"
    return f"is {found.what}{other}; {found.advice or 'give the .pt file of the model'}"


def _foreign(path: Path) -> Union[Foreign, None]:
    if path.is_dir():
        return foreign_folder(path) or Foreign("a directory", "")
    try:
        head = read_head(path)
        if not is_zip(head):
            return None if is_legacy(head) else recognised(path, head)
        try:
            members = _members(path, damaged=True)
        except Refused as refusal:
            return Foreign(str(refusal)[3:], "copy or download it again", True)
    except Refused as refusal:
        raise InputError(f"{path}: {refusal}") from None
    return None if "data.pkl" in members else foreign_zip(members)


def _members(path: Path, damaged: bool = False) -> Set[str]:
    """Names below the top folder. damaged: raise Refused for an archive that does not open, in place of an empty answer."""
    try:
        with open_zip(path) as archive:
            return {name.partition("/")[2] or name for name in archive.namelist()}
    except Refused:
        if damaged:
            raise
        return set()
    except BROKEN_ZIP as error:
        if damaged:
            raise Refused(f"is a truncated or damaged zip archive ({one_line(error)})") from None
        return set()


def read_head(path: Path) -> bytes:
    """The first bytes of a regular file. Raises Refused."""
    if not path.exists():
        raise Refused("no such file")
    if not path.is_file():
        raise Refused("is a directory" if path.is_dir() else "is not a regular file")
    try:
        with path.open("rb") as stream:
            head = stream.read(HEAD_BYTES)
    except OSError as error:
        raise Refused(f"cannot be read ({error.strerror})") from None
    if not head:
        raise Refused("is empty")
    return head


def is_zip(head: bytes) -> bool:
    return head.startswith(ZIP_MAGIC)


def is_legacy(head: bytes) -> bool:
    return head.startswith(pickle.PROTO) and _LEGACY_MAGIC in head[:_LEGACY_BYTES]
