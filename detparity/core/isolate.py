"""Child processes for what must not run in ours: a server that has imported what is needed, and workers forked from it.

The parent sends a request by name, with plain data and arrays, and gets the same back. A worker that crashes, hangs or takes too much
memory is reported as `Died`, and the next request meets a new one. Requests and replies are JSON and raw arrays in an unnamed shared
file, never pickles; a pipe says that one is there. The server is started by `subprocess`, never by `multiprocessing`, which would run
a user's script again where that has no `__main__` guard.
"""

from __future__ import annotations

import collections
import contextlib
import json
import mmap
import os
import select
import signal
import struct
import subprocess
import sys
import tempfile
import threading
import time
import weakref
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Callable, Deque, Dict, Iterator, List, Mapping, Optional, Tuple

import numpy as np

from detparity.core import landlock
from detparity.core.resources import PACKAGE

Arrays = Mapping[str, np.ndarray]
Handler = Callable[[Mapping[str, Any], Arrays], Tuple[Any, Arrays]]

_WORD = struct.Struct("<QQ")  # which worker is meant, and the length of the JSON at the start of the shared file
_ALIGN = 64
LEAST_BYTES = 1 << 20
OUTPUT = 64 * 1024  # bytes of what a child prints that are remembered


@dataclass(frozen=True)
class Limits:
    """memory: bytes a worker may take beyond what the server holds, None for no limit; seconds: a request may take, where the request
    itself names none."""

    memory: Optional[int] = None
    seconds: float = 60.0


@dataclass(frozen=True)
class Died(Exception):
    """A worker ended in the middle of a request. how: "crash", "time" or "memory"; what: in words, such as `SIGSEGV`; output: the
    last lines it printed; peak: the most memory it held, in bytes."""

    how: str
    what: str
    output: str
    peak: int

    def __str__(self) -> str:
        return self.what


class Refused(Exception):
    """The request was answered with an error: its text, in the child's words. kind: the name of the exception."""

    def __init__(self, kind: str, text: str) -> None:
        super().__init__(text)
        self.kind = kind


class _Shared:
    """The unnamed file both sides map. It grows, and is mapped again where the other side made it larger."""

    def __init__(self, descriptor: int) -> None:
        self.descriptor = descriptor
        self._map: Optional[mmap.mmap] = None

    def _mapped(self, size: int) -> mmap.mmap:
        if self._map is None or len(self._map) < size:
            there = os.fstat(self.descriptor).st_size
            if there < size:
                there = max(size, 2 * there, LEAST_BYTES)
                os.ftruncate(self.descriptor, there)
            self._map = mmap.mmap(self.descriptor, there)
        return self._map

    def write(self, content: Any, arrays: Arrays) -> int:
        """Put one message in; the length of its JSON."""
        described, offset = [], 0
        for name, array in arrays.items():
            described.append([name, array.dtype.str, list(array.shape), offset])
            offset += -(-array.nbytes // _ALIGN) * _ALIGN
        text = json.dumps([content, described]).encode()
        start = -(-len(text) // _ALIGN) * _ALIGN
        target = self._mapped(max(start + offset, 1))
        target[: len(text)] = text
        for (_, _, _, place), array in zip(described, arrays.values()):
            if array.nbytes:
                view = np.frombuffer(target, array.dtype, array.size, start + place).reshape(array.shape)
                view[...] = array
        return len(text)

    def read(self, length: int) -> Tuple[Any, Dict[str, np.ndarray]]:
        """Take one message out; the arrays are copies. Raises ValueError for what is no message."""
        size = os.fstat(self.descriptor).st_size
        if length > size:
            raise ValueError("a message is longer than the shared file")
        source = self._mapped(size)
        content, described = json.loads(source[:length])
        start = -(-length // _ALIGN) * _ALIGN
        arrays = {}
        for name, dtype, shape, place in described:
            kind = np.dtype(dtype)
            count = int(np.prod(shape, dtype=np.int64)) if shape else 1
            if kind.hasobject or count < 0 or start + place + count * kind.itemsize > size:
                raise ValueError(f"the array {name!r} does not fit the shared file")
            arrays[str(name)] = np.frombuffer(source, kind, count, start + place).reshape(shape).copy()
        return content, arrays


class Child:
    """A server and its current worker. main: the module whose `HANDLERS` (name to `Handler`) the workers answer by; it is imported in
    the server, whose import overlaps with whatever the parent does meanwhile."""

    def __init__(self, main: str, limits: Limits = Limits()) -> None:
        self.limits = limits
        self._main = main
        self._lock = threading.RLock()
        self._server: Optional[_Server] = None
        self._finalizer: Optional[weakref.finalize] = None
        self.confinement = ""

    def start(self) -> None:
        """Start the server, without waiting for it. `request` does so where that has not been done."""
        with self._lock:
            if self._server is None:
                self._server = _Server(self._main, self.limits)
                self._finalizer = weakref.finalize(self, self._server.close)

    @property
    def generation(self) -> int:
        """The number of the current worker: what an earlier one held is lost."""
        return self._server.generation if self._server else 0

    def request(
        self, name: str, content: Any = None, arrays: Optional[Arrays] = None, seconds: Optional[float] = None
    ) -> Tuple[Any, Dict[str, np.ndarray]]:
        """Have a worker answer. Raises Refused with the text of an error there, Died where the worker ended."""
        with self._lock:
            self.start()
            assert self._server is not None
            try:
                found = self._server.request(
                    name, content, arrays or {}, self.limits.seconds if seconds is None else seconds
                )
            except _ServerDied:
                self.close()
                raise
            finally:
                if self._server is not None:
                    self.confinement = self._server.confinement
            return found

    def renew(self) -> None:
        """End the current worker: all it holds is released, and the next request meets a new one."""
        with self._lock:
            if self._server is not None:
                self._server.end_worker()

    def close(self) -> None:
        """End the server and its worker."""
        with self._lock:
            if self._finalizer is not None:
                self._finalizer()
            self._server = self._finalizer = None


class _ServerDied(Died):
    """The server itself ended."""


class _Server:
    def __init__(self, main: str, limits: Limits) -> None:
        self.limits = limits
        self.generation = 0
        self.confinement = ""
        self._worker = 0
        self._ready = False
        self._folder = tempfile.mkdtemp(prefix="detparity-child-")
        descriptor = os.memfd_create("detparity") if hasattr(os, "memfd_create") else _unnamed()
        self._shared = _Shared(descriptor)
        requests, self._requests = os.pipe()
        self._replies, replies = os.pipe()
        self._status, status = os.pipe()
        lifeline, self._lifeline = os.pipe()
        printed, printing = os.pipe()
        passed = (descriptor, requests, replies, status, lifeline)
        code = f"import sys; sys.path[0] = {str(PACKAGE.parent)!r}; from detparity.core.isolate import serve; serve(sys.argv[1:])"
        words = [
            sys.executable,
            "-W",
            "ignore",
            "-c",
            code,
            main,
            self._folder,
            str(limits.memory or 0),
            *map(str, passed),
        ]
        # Threads that spin after a parallel operation would take a core from the parent.
        environment = {**os.environ, "KMP_BLOCKTIME": "0", "PYTHONDONTWRITEBYTECODE": "1"}
        self._process = subprocess.Popen(
            words,
            stdin=subprocess.DEVNULL,
            stdout=printing,
            stderr=printing,
            pass_fds=passed,
            start_new_session=True,
            env=environment,
        )
        for one in (requests, replies, status, lifeline, printing):
            os.close(one)
        self._output: Deque[bytes] = collections.deque()
        threading.Thread(target=_drain, args=(printed, self._output), daemon=True).start()

    def request(self, name: str, content: Any, arrays: Arrays, seconds: float) -> Tuple[Any, Dict[str, np.ndarray]]:
        self._need_worker()
        length = self._shared.write([name, content], arrays)
        os.write(self._requests, _WORD.pack(self.generation, length))
        until = time.monotonic() + seconds
        while True:
            there, _, _ = select.select([self._replies, self._status], [], [], max(until - time.monotonic(), 0.0))
            if self._replies in there:
                generation, length = _WORD.unpack(_exactly(self._replies, _WORD.size))
                if generation == self.generation:
                    break
            elif self._status in there:
                raise self._died(self._next_status())
            else:
                self._kill()
                ended = self._next_status()
                raise Died("time", f"was still running after {seconds:g} s", self.printed(), int(ended.get("peak", 0)))
        (kind, answer), found = self._shared.read(length)
        if kind != "done":
            raise Refused(str(kind), str(answer))
        return answer, found

    def _need_worker(self) -> None:
        if not self._ready:
            ready = self._next_status()
            self._ready, self.confinement = True, str(ready["confinement"])
        if not self._worker:
            self.generation += 1
            os.write(self._requests, _WORD.pack(self.generation, 0))
            self._worker = int(self._next_status()["worker"])
            self._output.clear()

    def _next_status(self) -> Dict[str, Any]:
        """The next word of the server. Raises _ServerDied where it has none left."""
        try:
            (length,) = struct.unpack("<I", _exactly(self._status, 4))
            found: Dict[str, Any] = json.loads(_exactly(self._status, length))
        except EOFError:
            code = self._process.wait()
            self._worker = 0
            raise _ServerDied("crash", f"the child process ended ({_ending(code)})", self.printed(), 0) from None
        if "ended" in found:
            self._worker = 0
        return found

    def _died(self, ended: Mapping[str, Any]) -> Died:
        peak, output = int(ended.get("peak", 0)), self.printed()
        full = self.limits.memory is not None and peak > 0.9 * self.limits.memory
        if full or "bad_alloc" in output or "MemoryError" in output:
            return Died("memory", f"took more than {(self.limits.memory or 0) / 1e9:.1f} GB of memory", output, peak)
        return Died("crash", _ending(int(ended["ended"])), output, peak)

    def printed(self) -> str:
        """The end of what the child has printed."""
        time.sleep(0.01)  # the draining thread may be a moment behind
        return b"".join(list(self._output)).decode(errors="replace")

    def _kill(self) -> None:
        if self._worker:
            with contextlib.suppress(ProcessLookupError):
                os.kill(self._worker, signal.SIGKILL)

    def end_worker(self) -> None:
        if self._worker:
            self._kill()
            with contextlib.suppress(Died):
                self._next_status()

    def close(self) -> None:
        os.close(self._lifeline)  # the server ends its worker and itself
        try:
            self._process.wait(5)
        except subprocess.TimeoutExpired:
            self._process.kill()
            self._process.wait()
        for one in (self._requests, self._replies, self._status, self._shared.descriptor):
            os.close(one)
        with contextlib.suppress(OSError):
            for path in sorted(Path(self._folder).rglob("*"), reverse=True):
                path.rmdir() if path.is_dir() and not path.is_symlink() else path.unlink()
            os.rmdir(self._folder)


def _unnamed() -> int:
    with tempfile.TemporaryFile() as file:
        return os.dup(file.fileno())


def _drain(source: int, kept: Deque[bytes]) -> None:
    total = 0
    while True:
        try:
            part = os.read(source, 8192)
        except OSError:
            part = b""
        if not part:
            os.close(source)
            return
        kept.append(part)
        total = sum(map(len, kept)) if total > 4 * OUTPUT else total + len(part)
        while total > OUTPUT and len(kept) > 1:
            total -= len(kept.popleft())


def _exactly(descriptor: int, count: int) -> bytes:
    """Read so many bytes. Raises EOFError where the other side has closed."""
    found = b""
    while len(found) < count:
        part = os.read(descriptor, count - len(found))
        if not part:
            raise EOFError
        found += part
    return found


def _ending(code: int) -> str:
    """How a process ended, in words: the name of a signal, or its exit code."""
    if code < 0:
        try:
            return signal.Signals(-code).name
        except ValueError:
            return f"signal {-code}"
    return f"exit code {code}"


# --- in the child ---------------------------------------------------------------------------------------------------


def serve(arguments: List[str]) -> None:
    """The server: import, confine, then fork one worker after the other. Returns when the parent is gone."""
    main, folder, memory = arguments[:3]
    descriptor, requests, replies, status, lifeline = map(int, arguments[3:])
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # of the terminal: the parent decides
    os.chdir(folder)
    os.environ["TMPDIR"] = tempfile.tempdir = folder
    import importlib

    handlers: Mapping[str, Handler] = importlib.import_module(main).HANDLERS
    confinement = _confined(Path(folder))
    tell = _teller(status)
    tell({"confinement": confinement})
    woken, waking = os.pipe()
    os.set_blocking(waking, False)
    signal.signal(signal.SIGCHLD, lambda *_: None)
    signal.set_wakeup_fd(waking, warn_on_full_buffer=False)
    while True:
        there, _, _ = select.select([requests, lifeline], [], [])
        if lifeline in there:
            return
        generation, length = _WORD.unpack(_exactly(requests, _WORD.size))
        if length:  # for a worker that ended before it read this
            continue
        worker = os.fork()
        if not worker:
            signal.set_wakeup_fd(-1)
            signal.signal(signal.SIGCHLD, signal.SIG_DFL)
            _limit(int(memory))
            _work(handlers, generation, _Shared(descriptor), requests, replies)
        tell({"worker": worker})
        _attend(worker, woken, lifeline, tell)


def _teller(status: int) -> Callable[[Mapping[str, Any]], None]:
    def tell(content: Mapping[str, Any]) -> None:
        text = json.dumps(content).encode()
        os.write(status, struct.pack("<I", len(text)) + text)

    return tell


def _attend(worker: int, woken: int, lifeline: int, tell: Callable[[Mapping[str, Any]], None]) -> None:
    """Wait for a worker's end and report it; where the parent is gone, end it and this process."""
    while True:
        found, code, used = os.wait4(worker, os.WNOHANG)
        if found:
            ending = -os.WTERMSIG(code) if os.WIFSIGNALED(code) else os.WEXITSTATUS(code)
            tell({"ended": ending, "peak": used.ru_maxrss * 1024})
            return
        there, _, _ = select.select([woken, lifeline], [], [])
        if woken in there:
            os.read(woken, 4096)
        if lifeline in there:
            os.kill(worker, signal.SIGKILL)
            os.waitpid(worker, 0)
            os._exit(0)


def _confined(folder: Path) -> str:
    try:
        return landlock.confine(folder)
    except (OSError, AttributeError) as error:  # no such kernel, or another system
        return f"unconfined: {error}"


def _limit(memory: int) -> None:
    import resource

    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
    if memory:
        # Of what is there already, the imports' share, and the limit beyond it. RLIMIT_AS would count what CUDA builds only map.
        lines = Path("/proc/self/status").read_text().splitlines() if Path("/proc/self/status").exists() else []
        held = next((int(line.split()[1]) * 1024 for line in lines if line.startswith("VmData:")), 0)
        resource.setrlimit(resource.RLIMIT_DATA, (held + memory, held + memory))


def _work(handlers: Mapping[str, Handler], generation: int, shared: _Shared, requests: int, replies: int) -> None:
    """The worker: answer requests until there are none, then end without a return."""
    code = 1
    try:
        for length in _meant(generation, requests):
            (name, content), arrays = shared.read(length)
            answer, found = _answered(handlers[name], content, arrays)
            try:
                length = shared.write(answer, found)
            except (TypeError, ValueError) as error:
                length = shared.write([type(error).__name__, str(error)], {})
            sys.stdout.flush()
            os.write(replies, _WORD.pack(generation, length))
        code = 0
    finally:
        sys.stderr.flush()
        os._exit(code)


def _meant(generation: int, requests: int) -> Iterator[int]:
    while True:
        try:
            meant, length = _WORD.unpack(_exactly(requests, _WORD.size))
        except EOFError:
            return
        if meant == generation and length:
            yield length


def _answered(handler: Handler, content: Any, arrays: Arrays) -> Tuple[List[Any], Arrays]:
    try:
        answer, found = handler(content, arrays)
        return ["done", answer], found
    except Exception as error:  # whatever a parser or a runtime raises is its answer
        return [type(error).__name__, " ".join(str(error).split())[:4000] or type(error).__name__], {}
