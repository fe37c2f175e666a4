"""Child processes for what must not run in ours: a server that has imported what is needed, and workers forked from it.

The parent sends a request by name, with plain data and arrays, and gets the same back. A worker that crashes, hangs or takes too much
memory is reported as `Died`, and the next request meets a new one. Requests and replies are JSON and raw arrays in an unnamed shared
file, never pickles; a pipe says that one is there. The server is started by `subprocess`, never by `multiprocessing`, which would run
a user's script again where that has no `__main__` guard.
"""

from __future__ import annotations

import contextlib
import json
import os
import select
import shutil
import signal
import struct
import subprocess
import sys
import tempfile
import threading
import time
import weakref
from dataclasses import dataclass
from typing import Any, Dict, Mapping, Optional, Tuple

import numpy as np

from detparity.core.isolate_messages import WORD, Arrays, Shared, exactly
from detparity.core.resources import PACKAGE

OUTPUT = 64 * 1024  # bytes of what a child prints that are remembered


@dataclass(frozen=True)
class Limits:
    """memory: bytes a worker may take beyond what the server holds, None for no limit; seconds: a request may take, where the request
    itself names none."""

    memory: Optional[int] = None
    seconds: float = 60.0


OUTSIDE = "was killed by another process (SIGKILL), as Linux does where the machine has no memory left"


@dataclass(eq=False)  # not frozen: Python sets the traceback of what is raised
class Died(Exception):
    """A worker ended in the middle of a request. how: "crash", "time", "memory" or "killed" (by another process: nothing is known of
    the request); what: as text, such as `SIGSEGV`; output: the last lines it printed; peak: the most memory it held, in bytes."""

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

    def printed(self) -> str:
        """The end of what the current worker has printed."""
        return self._server.printed() if self._server else ""

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
        self._removal = weakref.finalize(self, shutil.rmtree, self._folder, True)  # at exit too, whenever that is
        descriptor = os.memfd_create("detparity") if hasattr(os, "memfd_create") else _unnamed()
        self._shared = Shared(descriptor)
        requests, self._requests = os.pipe()
        self._replies, replies = os.pipe()
        self._status, status = os.pipe()
        lifeline, self._lifeline = os.pipe()
        printed, printing = os.pipe()
        passed = (descriptor, requests, replies, status, lifeline)
        code = f"import sys; sys.path[0] = {str(PACKAGE.parent)!r}; "
        code += "from detparity.core.isolate_child import serve; serve(sys.argv[1:])"
        words = [
            sys.executable,
            "-u",  # what it prints before a crash is shown
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
        self._output = _Output(printed)

    def request(self, name: str, content: Any, arrays: Arrays, seconds: float) -> Tuple[Any, Dict[str, np.ndarray]]:
        self._need_worker()
        length = self._shared.write([name, content], arrays)
        os.write(self._requests, WORD.pack(self.generation, length))
        start, before = time.monotonic(), waited(self._worker)
        until = start + seconds
        while True:
            there, _, _ = select.select([self._replies, self._status], [], [], max(until - time.monotonic(), 0.0))
            if self._replies in there:
                generation, length = WORD.unpack(exactly(self._replies, WORD.size))
                if generation == self.generation:
                    break
            elif self._status in there:
                raise self._died(self._next_status())
            else:
                longer = start + seconds + waited(self._worker) - before
                if longer > until:
                    until = longer
                    continue
                self._kill()
                ended = self._next_status()
                raise Died("time", f"is not done after {seconds:.0f} s", self.printed(), int(ended.get("peak", 0)))
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
            os.write(self._requests, WORD.pack(self.generation, 0))
            self._worker = int(self._next_status()["worker"])
            self._output.clear()

    def _next_status(self) -> Dict[str, Any]:
        """The next word of the server. Raises _ServerDied where it has none left."""
        try:
            (length,) = struct.unpack("<I", exactly(self._status, 4))
            found: Dict[str, Any] = json.loads(exactly(self._status, length))
        except EOFError:
            code = self._process.wait()
            self._worker = 0
            how, what = (
                ("killed", OUTSIDE)
                if code == -signal.SIGKILL
                else ("crash", f"the child process ended ({ending(code)})")
            )
            raise _ServerDied(how, what, self.printed(), 0) from None
        if "ended" in found:
            self._worker = 0
        return found

    def _died(self, ended: Mapping[str, Any]) -> Died:
        peak, output = int(ended.get("peak", 0)), self.printed()
        full = self.limits.memory is not None and peak > 0.9 * self.limits.memory
        if full or "bad_alloc" in output or "MemoryError" in output:
            return Died("memory", f"takes more than {(self.limits.memory or 0) / 1e9:.1f} GB of memory", output, peak)
        code = int(ended["ended"])
        if code == -signal.SIGKILL:  # which no worker sends itself
            return Died("killed", OUTSIDE, output, peak)
        return Died("crash", ending(code), output, peak)

    def printed(self) -> str:
        """The end of what the child has printed."""
        return self._output.text()

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
        os.close(self._lifeline)  # the server ends its worker and itself, once it has imported what it needs
        if not self._ready:
            self._process.kill()
        try:
            self._process.wait(5)
        except subprocess.TimeoutExpired:
            self._process.kill()
            self._process.wait()
        for one in (self._requests, self._replies, self._status, self._shared.descriptor):
            os.close(one)
        self._removal()


def waited(worker: int) -> float:
    """Seconds that a process has waited for a processor that others had, of its threads the one that waited longest. They do not
    count against a limit of time: on a machine with other work they say nothing of a file. 0 where the system does not say
    (`schedstat` of Linux's proc)."""
    longest, tasks = 0, f"/proc/{worker}/task"
    with contextlib.suppress(OSError):  # by os alone: this is asked at every request
        for one in os.listdir(tasks):
            with contextlib.suppress(OSError, ValueError, IndexError):  # a thread that has ended meanwhile
                descriptor = os.open(f"{tasks}/{one}/schedstat", os.O_RDONLY)
                try:
                    longest = max(longest, int(os.read(descriptor, 100).split()[1]))
                finally:
                    os.close(descriptor)
    return longest / 1e9


def _unnamed() -> int:
    with tempfile.TemporaryFile() as file:
        return os.dup(file.fileno())


class _Output:
    """The end of what arrives in a pipe, which a thread keeps empty."""

    def __init__(self, source: int) -> None:
        self._source = source
        self._open = True
        self._held = bytearray()
        self._lock = threading.Lock()
        threading.Thread(target=self._drain, daemon=True).start()

    def text(self) -> str:
        """The end of all that has been written until now."""
        until = time.monotonic() + 1.0  # a writer may never pause
        while self._waiting() and time.monotonic() < until:
            time.sleep(0.001)
        with self._lock:
            return self._held.decode(errors="replace")

    def clear(self) -> None:
        """Forget all that has been written until now."""
        self.text()
        with self._lock:
            self._held.clear()

    def _waiting(self) -> bool:
        with self._lock:
            return self._open and bool(select.select([self._source], [], [], 0.0)[0])

    def _drain(self) -> None:
        while self._open:
            select.select([self._source], [], [])
            with self._lock:
                part = os.read(self._source, 8192)
                self._held += part
                del self._held[:-OUTPUT]
                if not part:
                    os.close(self._source)
                    self._open = False


def ending(code: int) -> str:
    """How a process ended, in words: the name of a signal, or its exit code."""
    if code < 0:
        try:
            return signal.Signals(-code).name
        except ValueError:
            return f"signal {-code}"
    return f"exit code {code}"
