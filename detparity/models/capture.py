"""Capture: every call of an exporting function in a block, with a copy of the module it exports and the files it leads to.

    with capturing() as calls:
        export()
    for call in calls: ...

What the code of the block sees is unchanged: results, exceptions, signatures, the identity of the functions. This module imports no
framework: torch is observed once the code itself imports it.
"""

from __future__ import annotations

import contextlib
import filecmp
import os
import shutil
import tempfile
import time
import weakref
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any, Dict, Iterator, List, Mapping, Optional, Tuple

from detparity.core.errors import clipped
from detparity.models.capture_files import FileWatch, Written, absolute, attributed, watched
from detparity.models.capture_hooks import Installation, Watched
from detparity.models.capture_versions import MOST, Version, copied, new_folder, step, written_again

if TYPE_CHECKING:
    from torch import nn

    from detparity.models.capture_contract import Contract


@dataclass(frozen=True)
class CapturedCall:
    """One call of an exporting function.

    exporter: "torch.onnx.export", "torch.onnx.export (dynamo)", "torch.jit.trace", "torch.jit.script" or "torch.export"; module: a
    copy in the mode that the call exports, None with `problem`; arguments and kwargs: copies of the example inputs; dynamic_axes:
    symbols by tensor and axis, "" where the exporter chooses one; problem: why there is no module, or the exception of a failed call;
    failed: whether the call raised; files: as they lie at the end, its own first, then those derived from it; first: a copy of the
    file as the exporter wrote it; versions: copies of what became of that later, in order; shared: parts of the module that could
    not be copied.
    """

    exporter: str
    module: Optional[nn.Module] = None
    arguments: Tuple[Any, ...] = ()
    kwargs: Mapping[str, Any] = field(default_factory=dict)
    input_names: Tuple[str, ...] = ()
    output_names: Tuple[str, ...] = ()
    dynamic_axes: Mapping[str, Mapping[int, str]] = field(default_factory=dict)
    opset: Optional[int] = None
    problem: str = ""
    failed: bool = False
    files: Tuple[Path, ...] = ()
    first: Optional[Path] = None
    shared: Tuple[str, ...] = ()
    versions: Tuple[Version, ...] = ()


class Captures(List[CapturedCall]):
    """The calls of a block, once it has ended, in order.

    unclaimed: exported files that come from none of them; pythons: commands of the block that started Python, whose exports were not
    seen; lost: calls that could not be captured, and why; seconds: what the capture itself took.
    """

    def __init__(self) -> None:
        super().__init__()
        self.unclaimed: Tuple[Path, ...] = ()
        self.pythons: Tuple[str, ...] = ()
        self.lost: List[str] = []
        self.seconds = 0.0
        self.scratch = Path(tempfile.mkdtemp(prefix="detparity-capture-"))
        weakref.finalize(self, shutil.rmtree, str(self.scratch), ignore_errors=True)


@dataclass
class _Record:
    """A call while the block goes on. makes: whether it makes a program, which `_Session` knows by `contract`."""

    contract: Contract
    makes: bool
    failed: bool = False
    wrote: bool = False
    written: Written = field(default_factory=lambda: Written(None, None, 0))
    versions: List[Version] = field(default_factory=list)


@dataclass
class _Pending:
    """A call that has begun: what happens at its end."""

    watched: Watched
    subject: Any
    file: Any
    record: Optional[_Record] = None


class _Session:
    """The observer of one block."""

    def __init__(self, captures: Captures) -> None:
        self.captures = captures
        self.records: List[_Record] = []
        self._programs: Dict[int, Tuple[Any, _Record]] = {}
        self._paths: Dict[str, _Record] = {}

    def began(self, watched: Watched, arguments: Mapping[str, Any]) -> Optional[_Pending]:
        start = time.perf_counter()
        try:
            return self._began(watched, arguments)
        except Exception as error:  # nothing that capture does may end somebody's export
            self._lost(watched, error)
            return None
        finally:
            self.captures.seconds += time.perf_counter() - start

    def _began(self, watched: Watched, arguments: Mapping[str, Any]) -> Optional[_Pending]:
        from detparity.models.capture_contract import Contract, contract, exported

        subject = exported(next(iter(arguments.values())))
        pending = _Pending(watched, subject, None if watched.role == "make" else _file(arguments))
        if watched.role in ("export", "make"):
            from torch import nn

            origin = self._origin(subject)
            if watched.exporter == "torch.jit.script" and (origin is not None or not isinstance(subject, nn.Module)):
                return None  # a function, a class or a program: what it is part of is captured
            try:
                made = contract(watched, arguments, subject, origin.contract if origin else None)
            except Exception as error:
                made = Contract(watched.exporter, problem=f"the call could not be read: {clipped(error)}")
            pending.record = _Record(made, watched.role == "make")
            self.records.append(pending.record)
        return pending

    def ended(self, call: Optional[_Pending], result: Any) -> None:
        start = time.perf_counter()
        try:
            if call is not None:
                self._ended(call, result)
        except Exception as error:  # as in `began`
            self._lost(call.watched if call else Watched(""), error)
        finally:
            self.captures.seconds += time.perf_counter() - start

    def _ended(self, call: _Pending, result: Any) -> None:
        role = call.watched.role
        if role == "save":
            self._saved(call)
        elif role == "step":
            self._stepped(call.watched.exporter, result)
        elif role == "export":
            assert call.record is not None
            if call.file is not None:
                self._write(call.record, call.file)
            if result is not None:
                self._remember(result, call.record)
        elif role == "make":
            assert call.record is not None
            self._remember(result, call.record)
        else:
            origin = self._origin(call.subject) if role == "derive" else self._paths.get(_path(call.subject) or "")
            if origin is not None:
                self._remember(result, origin)

    def failed(self, call: Optional[_Pending], error: BaseException) -> None:
        if call is not None and call.record is not None and isinstance(error, Exception):
            call.record.failed = True
            call.record.contract.problem = f"{type(error).__name__}: {clipped(error)}"

    def _lost(self, watched: Watched, error: Exception) -> None:
        self.captures.lost.append(
            f"a call of {watched.exporter or watched.role} could not be captured: {clipped(error)}"
        )

    def _remember(self, program: Any, record: _Record) -> None:
        self._programs[id(program)] = (weakref.ref(program), record)

    def _origin(self, program: Any) -> Optional[_Record]:
        """The call that a program comes from."""
        reference, record = self._programs.get(id(program), (None, None))
        return record if reference is not None and reference() is program else None

    def _saved(self, call: _Pending) -> None:
        """A program is saved: the file of the call that made it, or, where that has one, of another call that is the same."""
        from detparity.models.capture_contract import Contract, contract

        record = self._origin(call.subject)
        if record is None:
            made = contract(Watched("make", "torch.jit"), {}, call.subject, None)
            record = _Record(made or Contract("torch.jit"), True)
            self.records.append(record)
        elif record.wrote:
            record = _Record(record.contract, True)
            self.records.append(record)
        self._write(record, call.file)

    def _stepped(self, how: str, result: Any) -> None:
        """A tool made another model of the file that was written last."""
        record = max((one for one in self.records if one.wrote), key=lambda one: one.written.when, default=None)
        if record is not None and len(record.versions) < MOST:
            version = step(result, how, self.captures.scratch)
            record.versions += [version] if version is not None else []

    def overwritten(self, watch: FileWatch, path: str) -> None:
        """The file of a call is about to be written over: it is copied, but for the exporter's own, which has been."""
        for record in self.records:
            own = record.written.path
            if own is None or path not in watch.now_at(own, record.written.when) or not os.path.isfile(path):
                continue
            known = [record.written.first, *(version.path for version in record.versions)]
            seen = any(one is not None and filecmp.cmp(one, path, shallow=False) for one in known)
            if not seen and len(record.versions) < MOST:
                record.versions.append(written_again(Path(path), record.versions, self.captures.scratch))

    def _write(self, record: _Record, file: Any) -> None:
        """Note where a call wrote, and copy the file as it is now."""
        record.wrote = True
        path = _path(file)
        folder = new_folder(self.captures.scratch)
        first: Optional[Path] = None
        if path is None and hasattr(file, "getvalue"):
            first = folder / "stream"
            first.write_bytes(file.getvalue())
        elif path is not None:
            self._paths[path] = record
            if hasattr(file, "flush"):
                file.flush()
            if os.path.isfile(path):
                first = copied(Path(path), folder)
        record.written = Written(path, first, time.time_ns())

    def finish(self, watch: FileWatch) -> None:
        """Fill the list that the block was given."""
        found, unclaimed = attributed([record.written for record in self.records], watch)
        for record, files in zip(self.records, found):
            made = vars(record.contract)
            first = record.written.first
            versions = tuple(record.versions)
            self.captures.append(
                CapturedCall(**made, failed=record.failed, files=tuple(files), first=first, versions=versions)
            )
        self.captures.unclaimed = tuple(unclaimed)
        self.captures.pythons = tuple(dict.fromkeys(watch.pythons))


def _file(arguments: Mapping[str, Any]) -> Any:
    """The file among the arguments of a call: by the names that torch gives it, else the first after the program."""
    for name in ("f", "destination"):
        if name in arguments:
            return arguments[name]
    rest = list(arguments.values())[1:]
    first = rest[0] if rest else None
    return next(iter(first), None) if isinstance(first, tuple) else first


def _path(file: Any) -> Optional[str]:
    """Where a path, or a file object that has one, lies."""
    if isinstance(file, (str, bytes, os.PathLike)):
        return absolute(file)
    name = getattr(file, "name", None)
    return absolute(name) if isinstance(name, (str, bytes)) else None


_sessions: List[_Session] = []


def _observer() -> Optional[_Session]:
    return _sessions[-1] if _sessions else None


@contextlib.contextmanager
def capturing() -> Iterator[Captures]:
    """The calls of exporting functions in the block; the list is filled when the block ends, also by an exception."""
    captures = Captures()
    session = _Session(captures)
    installation = Installation(_observer) if not _sessions else None
    with watched(captures.scratch) as watch:
        watch.before = lambda path: session.overwritten(watch, path)
        _sessions.append(session)
        if installation is not None:
            installation.install()
        try:
            yield captures
        finally:
            if installation is not None:
                installation.remove()
            _sessions.remove(session)
            session.finish(watch)
