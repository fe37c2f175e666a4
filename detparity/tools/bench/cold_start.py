"""Cost of a cold start, measured in a new process: seconds of loading and of the first call, and peak memory."""

from __future__ import annotations

import contextlib
import json
import os
import pickle
import subprocess
import sys
import time
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, Dict, Mapping, Optional

import numpy as np

from detparity import engines
from detparity.core.environment import line_of
from detparity.core.errors import EngineError
from detparity.core.resources import PACKAGE
from detparity.core.vocabulary import Size
from detparity.inputs.images import batch_of
from detparity.tools.bench.candidates import Recipe, pictures_of, prepare

ANSWER = b"cold start: "  # before an answer, among whatever a runtime prints
CALLS = 3  # before the memory is read: the first allocates most, arenas grow a little after it


@dataclass(frozen=True)
class ColdStart:
    """load, first: seconds to prepare (of a cut file: with cutting it) and for the first call, packages already imported; peak: bytes
    of memory beyond those of the imports and one input at most, None where the system does not report it."""

    load: float
    first: float
    peak: Optional[int]


class Processes:
    """Where contenders are measured: a process for each set of imports, and in it a fork for each contender, so that none waits for
    imports and each has a peak of its own. Used in a `with` statement, which ends them."""

    def __init__(self) -> None:
        self._started: Dict[str, subprocess.Popen[bytes]] = {}

    def __enter__(self) -> Processes:
        return self

    def __exit__(self, *_: Any) -> None:
        for process in self._started.values():
            for stream in (process.stdin, process.stdout):
                assert stream is not None
                with contextlib.suppress(BrokenPipeError):
                    stream.close()
            process.wait()
        self._started.clear()

    def measure(self, recipe: Recipe, batch: int, size: Size) -> ColdStart:
        """Prepare and run a contender in a process of its own. Raises EngineError where it fails there."""
        process = self._process(recipe)
        assert process.stdin is not None and process.stdout is not None
        with contextlib.suppress(BrokenPipeError):
            process.stdin.write(pickle.dumps((recipe, batch, size)))
            process.stdin.flush()
        found = next((line for line in process.stdout if line.startswith(ANSWER)), None)
        if found is None or not hasattr(os, "fork"):
            self.__exit__()
        answer = json.loads(found[len(ANSWER) :]) if found else {}
        if not answer:
            raise EngineError(f"the process that ran {recipe.path or recipe.engine} ended without an answer")
        if "error" in answer:
            raise EngineError(answer["error"])
        return ColdStart(**answer)

    def _process(self, recipe: Recipe) -> subprocess.Popen[bytes]:
        imports = "onnxruntime" if recipe.engine == "onnxruntime" else "torch"
        if imports not in self._started:
            code = f"import sys; sys.path[0] = {str(PACKAGE.parent)!r}; "
            code += "from detparity.tools.bench.cold_start import serve; serve()"
            words = [sys.executable, "-W", "ignore", "-c", code]
            streams = {"stdin": subprocess.PIPE, "stdout": subprocess.PIPE, "stderr": subprocess.DEVNULL}
            self._started[imports] = subprocess.Popen(words, **streams)  # type: ignore[call-overload]
        return self._started[imports]


def serve() -> None:
    """Answer the questions of `Processes.measure` from standard input, which is this program's own, until it ends."""
    while True:
        try:
            recipe, batch, size = pickle.load(sys.stdin.buffer)
        except EOFError:
            return
        _import(recipe)
        feed = batch_of(pictures_of(0, batch), size)  # what making it needs is no part of the contender's peak
        if hasattr(os, "fork"):  # in a fork the counter starts anew, also where the system does not let it be reset
            child = os.fork()
            if child:
                if os.waitpid(child, 0)[1]:  # a signal is no answer either
                    _print({})
                continue
        try:
            found = asdict(_inside(recipe, feed))
        except EngineError as error:
            found = {"error": str(error)}
        _print(found)
        os._exit(0)  # threads that a runtime started before the fork are not here to be waited for


def _print(answer: Mapping[str, Any]) -> None:
    sys.stdout.flush()
    sys.stdout.buffer.write(b"\n" + ANSWER + json.dumps(answer).encode() + b"\n")
    sys.stdout.buffer.flush()


def _inside(recipe: Recipe, feed: np.ndarray) -> ColdStart:
    before = _mark()
    start = time.perf_counter()
    runner = prepare(recipe)
    loaded = time.perf_counter()
    runner.call({runner.input_names[0]: feed})
    first = time.perf_counter()
    for _ in range(CALLS - 1):
        runner.call({runner.input_names[0]: feed})
    peak = None if before is None else max(_bytes("VmHWM") - before, 0)
    return ColdStart(loaded - start, first - loaded, peak)


def _import(recipe: Recipe) -> None:
    """Import what the contender needs, so that its own loading is timed alone."""
    if recipe.engine == "onnxruntime":
        engines.module("onnxruntime")
        return
    engines.module("lite")
    from detparity.engines import eager
    from detparity.models.yolov7 import checkpoint_loader

    assert eager and checkpoint_loader


def _mark() -> Optional[int]:
    """Bytes in memory now, where the system's peak counter starts from there: it is reset, or this process has just been forked. None
    elsewhere, since the answer would include the peak of the imports."""
    try:
        Path("/proc/self/clear_refs").write_text("5", encoding="ascii")  # proc(5): resets the high-water mark
    except OSError:
        now = _bytes("VmRSS") if Path("/proc/self/status").exists() else 0
        return now if now and _bytes("VmHWM") < 1.01 * now else None
    return _bytes("VmRSS")


def _bytes(name: str) -> int:
    return int(line_of(Path("/proc/self/status"), name).split()[0]) * 1024
