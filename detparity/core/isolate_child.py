"""The child of `core/isolate.py`: a server that imports and confines itself, and the workers it forks."""

from __future__ import annotations

import importlib
import json
import os
import select
import signal
import struct
import sys
import tempfile
from pathlib import Path
from typing import Any, Callable, Iterator, List, Mapping, Tuple

from detparity.core import garbage, landlock
from detparity.core.isolate_messages import WORD, Arrays, Handler, Shared, exactly


def serve(arguments: List[str]) -> None:
    """The server: import, confine, then fork one worker after the other. Returns when the parent has ended."""
    main, folder, memory = arguments[:3]
    descriptor, requests, replies, status, lifeline = map(int, arguments[3:])
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # of the terminal: the parent decides
    os.chdir(folder)
    os.environ["TMPDIR"] = tempfile.tempdir = folder
    garbage.collect_less()
    handlers: Mapping[str, Handler] = importlib.import_module(main).HANDLERS
    garbage.freeze_imports()
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
        generation, length = WORD.unpack(exactly(requests, WORD.size))
        if length:  # for a worker that ended before it read this
            continue
        worker = os.fork()
        if not worker:
            signal.set_wakeup_fd(-1)
            signal.signal(signal.SIGCHLD, signal.SIG_DFL)
            _limit(int(memory))
            _work(handlers, generation, Shared(descriptor), requests, replies)
        tell({"worker": worker})
        _attend(worker, woken, lifeline, tell)


def _teller(status: int) -> Callable[[Mapping[str, Any]], None]:
    def tell(content: Mapping[str, Any]) -> None:
        text = json.dumps(content).encode()
        os.write(status, struct.pack("<I", len(text)) + text)

    return tell


def _attend(worker: int, woken: int, lifeline: int, tell: Callable[[Mapping[str, Any]], None]) -> None:
    """Wait for a worker's end and report it; where the parent has ended, end it and this process."""
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


def _work(handlers: Mapping[str, Handler], generation: int, shared: Shared, requests: int, replies: int) -> None:
    """The worker: answer requests until there are none, then end without a return."""
    code = 1
    try:
        for length in _addressed(generation, requests):
            (name, content), arrays = shared.read(length)
            answer, found = _answered(handlers[name], content, arrays)
            try:
                length = shared.write(answer, found)
            except (TypeError, ValueError) as error:
                length = shared.write([type(error).__name__, str(error)], {})
            sys.stdout.flush()
            os.write(replies, WORD.pack(generation, length))
        code = 0
    finally:
        sys.stderr.flush()
        os._exit(code)


def _addressed(generation: int, requests: int) -> Iterator[int]:
    while True:
        try:
            addressed, length = WORD.unpack(exactly(requests, WORD.size))
        except EOFError:
            return
        if addressed == generation and length:
            yield length


def _answered(handler: Handler, content: Any, arrays: Arrays) -> Tuple[List[Any], Arrays]:
    try:
        answer, found = handler(content, arrays)
        return ["done", answer], found
    except Exception as error:  # whatever a parser or a runtime raises is its answer
        return [type(error).__name__, " ".join(str(error).split())[:4000] or type(error).__name__], {}
