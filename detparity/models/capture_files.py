"""What a process does to files: an audit hook, and which captured call each exported file comes from.

Files that C++ writes (TorchScript archives, models that an engine optimised) escape the hook: the folders of the exported files are
looked through as well.
"""

from __future__ import annotations

import contextlib
import filecmp
import os
import sys
import time
import zlib
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Callable, Dict, Iterator, List, Optional, Sequence, Set, Tuple

from detparity.core import file_kind
from detparity.core.errors import InputError
from detparity.core.foreign_files import ONNX, recognised
from detparity.core.torch_archive import Refused

LARGE = 64  # numbers in an initializer that says which model a file is
TICK = 20_000_000  # nanoseconds by which the time of a file may lie before the clock's
PROGRAM = "exported program"
KINDS = ("onnx", *file_kind.SCRIPTS, PROGRAM)
_STARTS = ("subprocess.Popen", "os.system", "os.posix_spawn", "os.spawn", "os.exec")
_EVENTS = frozenset(("open", "os.rename", "os.remove", "os.link", "shutil.copyfile", *_STARTS))
_WRITES = os.O_WRONLY | os.O_RDWR | os.O_CREAT
_watchers: List[FileWatch] = []
_audited: List[bool] = []


@dataclass
class FileWatch:
    """Files that were opened for writing and moved, each with the time in nanoseconds, and commands that started Python. own: the
    folder of our copies; before: called with a path whose file is about to be written over, replaced or removed."""

    own: str
    began: int = field(default_factory=time.time_ns)
    written: Dict[str, int] = field(default_factory=dict)
    moved: List[Tuple[int, str, str]] = field(default_factory=list)
    pythons: List[str] = field(default_factory=list)
    before: Callable[[str], None] = lambda path: None

    def note(self, event: str, args: Sequence[Any]) -> None:
        now = time.time_ns()
        target = args[0] if event in ("open", "os.system", "os.remove") else args[1]
        if isinstance(target, (str, os.PathLike)) and os.fspath(target).startswith(self.own + os.sep):
            return
        if event == "open":
            path, mode, flags = args
            writes = any(letter in mode for letter in "wax+") if isinstance(mode, str) else bool(flags & _WRITES)
            if writes and not isinstance(path, int):
                self.before(absolute(path))
                self.written[absolute(path)] = now
        elif event == "os.remove":
            self.before(absolute(target))
        elif event in _STARTS:
            command = _command(event, args)
            if command:
                self.pythons.append(command)
        elif not isinstance(args[0], int):
            self.before(absolute(args[1]))
            self.moved.append((now, absolute(args[0]), absolute(args[1])))

    def now_at(self, path: str, since: int) -> List[str]:
        """The paths that a file written at `since` has been moved or copied to, itself first."""
        found = [path]
        for when, source, target in self.moved:
            if when < since:
                continue
            for one in list(found):
                inside = one == source or one.startswith(source + os.sep)
                moved = target + one[len(source) :] if inside else one
                if moved not in found:
                    found.append(moved)
        return found


def absolute(path: Any) -> str:
    return os.path.abspath(os.fsdecode(os.fspath(path)))


def _command(event: str, args: Sequence[Any]) -> str:
    """A command that starts Python, in one line; empty for any other."""
    if event == "os.system":
        words = os.fsdecode(args[0]).split()
    elif event == "subprocess.Popen":
        given = args[1]
        words = given.split() if isinstance(given, str) else [os.fsdecode(word) for word in given or ()]
    else:
        given = args[2] if event == "os.spawn" else args[1]
        words = [os.fsdecode(word) for word in given or ()]
    if not words or not os.path.basename(words[0]).startswith("python"):
        return ""
    return " ".join(words)[:120]


def _audit(event: str, args: Sequence[Any]) -> None:
    if _watchers and event in _EVENTS:
        for watch in _watchers:
            with contextlib.suppress(Exception):  # an audit hook that raises would end the call it watches
                watch.note(event, args)


@contextlib.contextmanager
def watched(own: Path) -> Iterator[FileWatch]:
    """Watch files in the block, but for those in the folder `own`. The hook, which Python cannot remove, is inert outside."""
    if not _audited:
        sys.addaudithook(_audit)
        _audited.append(True)
    watch = FileWatch(absolute(own))
    _watchers.append(watch)
    try:
        yield watch
    finally:
        _watchers.remove(watch)


def exported_kind(path: Path) -> str:
    """One of KINDS, by content; empty for any other file."""
    try:
        head = file_kind.read_head(path)
        if file_kind.is_zip(head):
            found = file_kind.kind(path)
            if found in file_kind.SCRIPTS:
                return found
            return PROGRAM if path.suffix == ".pt2" else ""
        return "onnx" if head and recognised(path, head) == ONNX else ""
    except (InputError, Refused, OSError, ValueError):
        return ""


@dataclass(frozen=True)
class Marks:
    """What two versions of one model's file have in common: names of the outputs, large tensors by content and by name and shape."""

    outputs: Tuple[str, ...]
    contents: Set[int]
    names: Set[Tuple[str, Tuple[int, ...]]]

    def shared_with(self, other: Marks) -> int:
        """How much speaks for one model: a large tensor says more than a name, and a name more than the outputs'."""
        contents = len(self.contents & other.contents)
        names = len(self.names & other.names)
        return contents * 1_000_000 + names * 1_000 + (self.outputs == other.outputs)


def marks(path: Path) -> Optional[Marks]:
    """None for a file that is no readable ONNX file."""
    from detparity.artifacts import onnx_graph  # onnx, which nothing may import before the script does

    try:
        graph = onnx_graph.read(path).graph
    except (InputError, OSError):
        return None
    large = {name: value for name, value in graph.constants.items() if value.size >= LARGE}
    return Marks(
        tuple(value.name for value in graph.outputs),
        {zlib.crc32(value.tobytes()) ^ value.size for value in large.values()},
        {(name, tuple(value.shape)) for name, value in large.items()},
    )


@dataclass
class Written:
    """A file as one call wrote it. path: where, None for a stream; first: a copy of it; when: the call ended."""

    path: Optional[str]
    first: Optional[Path]
    when: int


def attributed(calls: Sequence[Written], watch: FileWatch) -> Tuple[List[List[Path]], List[Path]]:
    """The files of each call as they lie at the end, its own first, and the exported files that come from no call."""
    owner: Dict[str, int] = {}
    found: List[List[Path]] = [[] for _ in calls]
    for index, call in enumerate(calls):
        for path in watch.now_at(call.path, call.when) if call.path else ():
            owner[path] = index
    for index, call in enumerate(calls):
        for path in watch.now_at(call.path, call.when) if call.path else ():
            if owner[path] == index and os.path.isfile(path):
                found[index].append(Path(path))
    unclaimed: List[Path] = []
    known: Dict[int, Optional[Marks]] = {}
    for path, when in sorted(_others(calls, watch, set(owner)).items(), key=lambda item: item[1]):
        ancestor = _ancestor(Path(path), when, calls, known)
        if ancestor is None:
            unclaimed.append(Path(path))
        else:
            found[ancestor].append(Path(path))
    return found, unclaimed


def _others(calls: Sequence[Written], watch: FileWatch, owned: Set[str]) -> Dict[str, int]:
    """Exported files written in the block that no call wrote itself, and when."""
    seen = {path: when for first, when in watch.written.items() for path in watch.now_at(first, when)}
    folders = {os.path.dirname(call.path) for call in calls if call.path} | {os.path.dirname(path) for path in owned}
    for folder in folders:
        with contextlib.suppress(OSError):
            for entry in os.scandir(folder):
                if entry.is_file() and entry.stat().st_mtime_ns >= watch.began - TICK:
                    seen.setdefault(absolute(entry.path), entry.stat().st_mtime_ns)
    return {path: when for path, when in seen.items() if path not in owned and exported_kind(Path(path))}


def _ancestor(path: Path, when: int, calls: Sequence[Written], known: Dict[int, Optional[Marks]]) -> Optional[int]:
    """The call whose file another was made from: the last that wrote the same bytes, as into a stream, else of an ONNX file the one
    that it shares most with, of several the latest before it."""
    same = [k for k, call in enumerate(calls) if call.first and filecmp.cmp(call.first, path, shallow=False)]
    if same:
        return same[-1]
    own = marks(path) if exported_kind(path) == "onnx" else None
    best, most = None, 0
    for index, call in enumerate(calls):
        if own is None or call.first is None or call.when - TICK > when:
            continue
        if index not in known:
            known[index] = marks(call.first)
        one = known[index]
        shared = 0 if one is None else own.shared_with(one)
        if shared and shared >= most:
            best, most = index, shared
    return best
