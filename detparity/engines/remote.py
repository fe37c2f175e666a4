"""The engines in a child process: the same runners and the same facts, with the file outside our own process.

One child serves all files of a process, until a file ends it; then the next request meets a new worker, and what an earlier one had
loaded is loaded again when it is next called.
"""

from __future__ import annotations

import functools
import os
import re
from dataclasses import asdict
from pathlib import Path
from typing import Any, Callable, Dict, Mapping, Optional, Set, Tuple, Union

import numpy as np

from detparity.artifacts.runtime_file import Port, RuntimeFile
from detparity.artifacts.torchscript_facts import Constant, ScriptFile, Written
from detparity.core.environment import memory_share
from detparity.core.errors import EngineDied, EngineError
from detparity.core.isolate import Child, Died, Limits, Refused
from detparity.core.text import printable
from detparity.core.vocabulary import Arrays, Load, Runner

MEMORY_SHARE = 0.5  # of the machine's memory, that one worker may take
LEAST_SECONDS = 60.0  # for any request
LAST_LINES, LINE_LETTERS, LAST_LETTERS = 5, 200, 4000  # of what a process printed before its end, that are shown
START_SECONDS = 120.0  # for a worker to answer its first request, the imports of its server included
CLASSES = {one.__name__: one for one in (ScriptFile, Constant, Written, RuntimeFile, Port)}
Source = Union[str, Path, bytes]
Seconds = Callable[[int], float]  # images to seconds


def at_least(images: int) -> float:
    """The limit where no reference says how long a run takes."""
    return LEAST_SECONDS * max(1, images)


class Engines:
    """The child of this process and what is loaded in it."""

    def __init__(self) -> None:
        self.child = Child("detparity.engines.child", Limits(memory_share(MEMORY_SHARE), LEAST_SECONDS))
        self.threads = 0  # of torch, 0 for its default
        self._generation = 0
        self._unused: Set[int] = set()

    def start(self) -> None:
        """Start the child without waiting for it."""
        self.child.start()

    @property
    def confinement(self) -> str:
        """What holds for the child, in one line."""
        if not self.child.confinement:
            self._ask("configure", {"threads": 0, "bare": ""}, {}, LEAST_SECONDS, "it starts")
        return self.child.confinement

    def prepare(self, engine: str, source: Source, how: Load = Load(), seconds: Seconds = at_least) -> Runner:
        """Load a file in an engine. seconds: what loading, or a call, may take for so many images.

        Raises EngineError where it does not load, EngineDied where that ends the child, ImportError where the engine is missing.
        """
        loaded = _Loaded(self, engine, source, how, seconds)
        loaded.load()
        names = tuple(loaded.facts["input_names"])
        return Runner(loaded.facts["engine"], loaded.call, loaded.facts["facts"], names, lambda: loaded.took)

    def read_script(self, kind: str, path: Path) -> ScriptFile:
        """The facts of a TorchScript file, "torchscript" or "lite". Raises EngineError where torch cannot load it."""
        found: ScriptFile = self._read(kind, path, "torch")
        return found

    def read_runtime(self, kind: str, path: Path) -> RuntimeFile:
        """The facts of a runtime's own file. Raises EngineError where it does not load, ImportError where its engine is missing."""
        found: RuntimeFile = self._read(kind, path, kind)
        return found

    def _read(self, kind: str, path: Path, who: str) -> Any:
        content, arrays = self._ask("read", {"kind": kind, "path": _full(path)}, {}, LEAST_SECONDS, f"{who} loads it")
        return _unpacked(content, arrays)

    def problem(self, path: Path) -> Optional[str]:
        """What onnx's checker says of a file; None where it finds nothing."""
        found, _ = self._ask("problem", {"path": _full(path)}, {}, LEAST_SECONDS, "onnx checks it")
        return None if found is None else str(found)

    def inferred(self, path: Path) -> Optional[bytes]:
        """The shapes onnx infers, as a serialised graph."""
        _, arrays = self._ask("inferred", {"path": _full(path)}, {}, LEAST_SECONDS, "onnx infers shapes")
        return arrays["graph"].tobytes() if "graph" in arrays else None

    def newest(self) -> Dict[str, int]:
        """The newest IR version and opset that ONNX Runtime loads."""
        return dict(self._ask("newest", {}, {}, LEAST_SECONDS, "ONNX Runtime starts")[0])

    def forget(self, number: int, generation: int) -> None:
        """Release what is loaded under a number, at the next request."""
        if generation == self.child.generation:
            self._unused.add(number)

    def _configure(self) -> None:
        """Make a new worker and give it this process's settings. A second one is made where the first does not answer: it was forked
        while a thread of a runtime held a lock."""
        settings = {"threads": self.threads, "bare": os.environ.get("DETPARITY_BARE", "")}
        try:
            self.child.request("configure", settings, seconds=START_SECONDS)
        except Died as died:
            if died.how != "time":
                raise
            self.child.request("configure", settings, seconds=START_SECONDS)
        self._generation = self.child.generation
        self._unused.clear()

    def _ask(
        self, name: str, content: Mapping[str, Any], arrays: Arrays, seconds: float, doing: str
    ) -> Tuple[Any, Dict[str, np.ndarray]]:
        try:
            if self.child.generation != self._generation or not self._generation:
                self._configure()
            if self._unused:
                self.child.request("release", {"numbers": sorted(self._unused)})
                self._unused.clear()
            return self.child.request(name, content, arrays, seconds)
        except Died as died:
            raise EngineDied(died.how, f"{_what(died)} while {doing}", seconds, _last_lines(died.output)) from None
        except Refused as refused:
            if refused.kind in ("ImportError", "ModuleNotFoundError"):
                named = re.search(r"No module named '([^']+)'", str(refused))
                raise ImportError(str(refused), name=named[1] if named else None) from None
            if refused.kind == "MemoryError":
                raise EngineDied("memory", f"takes more memory than it may while {doing}") from None
            raise EngineError(str(refused) if refused.kind == "EngineError" else f"{refused.kind}: {refused}") from None


def _what(died: Died) -> str:
    return f"crashes the process ({died.what})" if died.how == "crash" else died.what


def _last_lines(output: str) -> Tuple[str, ...]:
    """The end of what a process printed: a file may print anything, so the lines are few, short and without control characters."""
    lines = [line.rstrip() for line in output[-LAST_LETTERS:].splitlines() if line.strip()]
    return tuple(printable(line, LINE_LETTERS) for line in lines[-LAST_LINES:])


class _Loaded:
    """A file in the child; loaded again where the worker that held it has ended."""

    def __init__(self, engines: Engines, engine: str, source: Source, how: Load, seconds: Seconds) -> None:
        self._engines, self._engine, self._source, self._how = engines, engine, source, how
        self.seconds = seconds
        self.facts: Dict[str, Any] = {}
        self.took = 0.0
        self._generation = 0

    def load(self) -> None:
        content: Dict[str, Any] = {"engine": self._engine, "how": asdict(self._how)}
        arrays: Dict[str, np.ndarray] = {}
        if isinstance(self._source, bytes):
            arrays["model"] = np.frombuffer(self._source, np.uint8)
        else:
            content["path"] = _full(self._source)
        self.facts, _ = self._engines._ask("prepare", content, arrays, self.seconds(1), f"{self._engine} loads it")
        self._generation = self._engines.child.generation

    def call(self, feed: Arrays) -> Arrays:
        if self._generation != self._engines.child.generation:
            self.load()
        images = max((len(array) for array in feed.values() if array.ndim), default=1)
        seconds = self.seconds(images)
        names, found = self._engines._ask(
            "call", {"number": self.facts["number"]}, feed, seconds, f"{self._engine} runs it"
        )
        self.took = names["seconds"]
        for name in names["written"]:  # as in one process: the caller's own array changes
            if feed[name].flags.writeable:
                feed[name][...] = found[f"input {name}"]
        return {name: found[name] for name in names["order"]}

    def __del__(self) -> None:
        if self.facts:
            self._engines.forget(self.facts["number"], self._generation)


def _full(path: Union[str, Path]) -> str:
    """The child works in another folder."""
    return os.path.abspath(path)


def _unpacked(content: Any, arrays: Mapping[str, np.ndarray]) -> Any:
    if isinstance(content, list):
        return tuple(_unpacked(item, arrays) for item in content)
    if not isinstance(content, dict):
        return content
    if "array" in content:
        return arrays[content["array"]]
    if "items" in content:
        return {key: _unpacked(item, arrays) for key, item in content["items"]}
    return CLASSES[content["class"]](*(_unpacked(field, arrays) for field in content["fields"]))


@functools.cache
def client() -> Engines:
    """The engines of this process, whose child is started at the first request."""
    return Engines()
