"""A TorchScript file as a graph of tensors, run with some of them given from outside."""

from __future__ import annotations

import json
import re
from pathlib import Path
from typing import Dict, Optional, Sequence

import numpy as np

from detparity.checks.locating.program import Given, Part
from detparity.core.trace import other
from detparity.core.vocabulary import Load
from detparity.engines.remote import client

ENGINE = "torchscript_steps"
PARTS = "torchscript_part"
IMAGES, GIVEN, STEPS, PART = "images", "given ", "steps", "part"
FRAME = re.compile(r"([^/\\\"]+\.py)(?:\((\d+)\)|\", line (\d+))")  # as a trace and as a script record it


class ScriptProgram:
    """See `program.Program`. Tensors are called by the order in which operators give them; runs: how many inferences there were."""

    converted = True

    def __init__(self, path: Path, images: np.ndarray) -> None:
        self._path, self._images, self.image, self.runs = path, images, "0", 0
        self._runners = {how: client().prepare(ENGINE, path, Load(how)) for how in ("exact", "disabled")}
        self._first = self._called("disabled", {})
        content = json.loads(self._first.pop(STEPS).tobytes())
        self.outputs = tuple(map(str, content["outputs"]))
        self.parts: Sequence[Part] = [
            Part(titled(operator, number, module, line), operator, tuple(map(str, reads)), (str(number),))
            for number, (operator, module, line, reads) in enumerate(content["steps"])
            if number
        ]
        again = self._called("disabled", {}, other(images))
        same = (name for name, value in self._first.items() if np.array_equal(value, again.get(name, ())))
        self.fixed = set(same)

    def exact(self, given: Given, shown: Sequence[str]) -> Dict[str, np.ndarray]:
        found = self._called("exact", given)
        return {name: found[name] for name in shown if name in found}

    def rounded(self, given: Given, shown: Sequence[str]) -> Dict[str, np.ndarray]:
        found = self._called("disabled", given) if given else self._first
        return {name: found[name] for name in shown if name in found}

    def content(self, given: Given, shown: Sequence[str]) -> bytes:
        """By torch's exporter, of the operators that run in between; raises EngineError where it has none of them."""
        (name,) = shown
        runner = client().prepare(PARTS, self._path, Load("disabled"))
        values = {GIVEN + one: value for one, value in given.items()}
        return runner.call({IMAGES: self._images, PART: np.array(int(name)), **values})[PART].tobytes()

    def feeding(self, name: str, given: Given) -> np.ndarray:
        value = self._images if name == IMAGES else given[name[len(GIVEN) :]]
        return value.astype(np.float32)

    def _called(self, how: str, given: Given, images: Optional[np.ndarray] = None) -> Dict[str, np.ndarray]:
        self.runs += 1
        feed = {IMAGES: self._images if images is None else images}
        return dict(self._runners[how].call({**feed, **{GIVEN + name: value for name, value in given.items()}}))


def titled(operator: str, number: int, module: str, line: str) -> str:
    """An operator of a program by its order, its module and its source line."""
    found = FRAME.search(line)
    frame = f", {found[1]} line {found[2] or found[3]}" if found else ""
    return f"{operator} {number}{f' of {module}' if module else ''}{frame}"
