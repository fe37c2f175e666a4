"""One failing part of a file, small enough for a public issue: the nodes around the fault, what they are given, what they give.

    DIR/part.onnx, DIR/arrays.npz, DIR/facts.json, DIR/replay.py

The part holds the weights of those nodes alone, and is made smaller by `reduction.py`.
"""

from __future__ import annotations

import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Dict, Mapping, Sequence, Tuple

import numpy as np

from detparity.checks.locating.matching import Noise
from detparity.checks.locating.program import HOW, RUNTIME
from detparity.checks.locating.search import Fault, Search
from detparity.core import environment
from detparity.core.errors import EngineError, InputError
from detparity.core.files import write_bytes, write_text
from detparity.core.version import __version__
from detparity.engines.remote import client

LARGEST = 200_000  # bytes
NAMES = ("part.onnx", "arrays.npz", "facts.json", "replay.py")

SCRIPT = '''"""python replay.py: repeats one difference of an exported detector, with numpy and onnxruntime alone."""

import json
import pathlib
import sys

import numpy as np
import onnxruntime

folder = pathlib.Path(__file__).resolve().parent
facts = json.loads((folder / "facts.json").read_text())
arrays = np.load(folder / "arrays.npz", allow_pickle=False)
options = onnxruntime.SessionOptions()
options.graph_optimization_level = onnxruntime.GraphOptimizationLevel.ORT_DISABLE_ALL
path = str(folder / "part.onnx")
session = onnxruntime.InferenceSession(path, options, providers=["CPUExecutionProvider"])
feed = {value.name: arrays[f"input {number}"] for number, value in enumerate(session.get_inputs())}
found = session.run(None, feed)[0].astype(np.float64)
expected, judged = arrays["expected"].astype(np.float64), arrays["judged"]
error = np.abs(found - expected)[judged]
print("module:  ", facts["module"])
print("node:    ", facts["node"])
print("largest error %.4g, root mean square %.4g" % (error.max(), np.sqrt((error**2).mean())))
print("allowed: %.4g, what rounding does; recorded: %.4g" % (facts["allowed"], facts["error"]))
wrong = not error.max() <= facts["allowed"]  # no number at all is wrong as well
print("it still differs" if wrong else "it does not differ here")
sys.exit(1 if wrong else 0)
'''


@dataclass(frozen=True)
class Part:
    """The bytes of a model; what it is given, in the order of its inputs; what it gives and should give; judged: which numbers
    count; allowed: the largest error that rounding makes."""

    model: bytes
    inputs: Tuple[np.ndarray, ...]
    found: np.ndarray
    expected: np.ndarray
    judged: np.ndarray
    allowed: float

    @property
    def error(self) -> float:
        return float(np.abs(self.found - self.expected)[self.judged].max(initial=0.0))

    @property
    def size(self) -> int:
        """Bytes of its model and arrays, as they are written but for the compression of what is not zero."""
        given = sum(int(np.count_nonzero(one)) * one.itemsize for one in self.inputs)
        return len(self.model) + given + 9 * int(self.judged.sum())

    @property
    def shows(self) -> bool:
        return not self.error <= self.allowed


def part_of(search: Search, fault: Fault) -> Part:
    """The part of a file that makes one tensor, given the model's numbers. Raises EngineError."""
    known = set(search.known) - {fault.tensor}
    ends, _ = search.file.before(fault.tensor, known)
    given = {name: search.given(name) for name in ends if name != search.program.image}
    model = search.program.content(given, [fault.tensor])
    names = list(client().prepare(RUNTIME, model, HOW[RUNTIME]).input_names)
    inputs = [search.program.feeding(name, given) for name in names]
    expected = search.given(fault.tensor)
    found = run(model, inputs).reshape(expected.shape)
    noise = Noise(fault.noise, fault.largest)
    if search.program.converted:
        there = search.program.rounded(given, [fault.tensor])[fault.tensor].astype(np.float64)
        if not noise.allows(found, there):
            raise EngineError("the part, as ONNX, gives other numbers than in the program")
    _, allowed = noise.limits(expected)
    return Part(model, tuple(inputs), found, expected, np.ones(expected.shape, bool), allowed)


def run(model: bytes, inputs: Sequence[np.ndarray]) -> np.ndarray:
    """What a part gives. Raises EngineError."""
    runner = client().prepare(RUNTIME, model, HOW[RUNTIME])
    (found,) = runner.call(dict(zip(runner.input_names, inputs))).values()
    return found.astype(np.float64)


def write(folder: Path, part: Part, facts: Mapping[str, Any]) -> int:
    """Write a bundle; how many bytes it takes. Raises InputError where the folder holds something else."""
    if folder.exists() and (not folder.is_dir() or {one.name for one in folder.iterdir()} - set(NAMES)):
        raise InputError(f"{folder} is there and is no bundle: name another folder")
    folder.mkdir(parents=True, exist_ok=True)
    arrays: Dict[str, Any] = {f"input {number}": one for number, one in enumerate(part.inputs)}
    expected, found = (np.where(part.judged, one, 0).astype(np.float32) for one in (part.expected, part.found))
    arrays.update(expected=expected, found=found, judged=part.judged)
    with (folder / "arrays.npz").open("wb") as stream:
        np.savez_compressed(stream, **arrays)
    write_bytes(folder / "part.onnx", part.model)
    content = {**facts, "error": part.error, "allowed": part.allowed, "detparity": __version__}
    content["environment"] = environment.environment()
    write_text(folder / "facts.json", json.dumps(content, indent=1, default=str) + "\n")
    write_text(folder / "replay.py", SCRIPT)
    return sum((folder / name).stat().st_size for name in NAMES)


def read(folder: Path) -> Tuple[bytes, Mapping[str, np.ndarray], Dict[str, Any]]:
    """A bundle's model, arrays and facts. Raises InputError."""
    try:
        with np.load(folder / "arrays.npz", allow_pickle=False) as stored:
            arrays = {name: stored[name] for name in stored.files}
        facts = json.loads((folder / "facts.json").read_text(encoding="utf-8"))
        model = (folder / "part.onnx").read_bytes()
        facts = {**facts, **{name: str(facts[name]) for name in ("file", "module", "node", "case")}}
        facts.update({name: float(facts[name]) for name in ("allowed", "error")})
        if arrays["judged"].shape != arrays["expected"].shape or arrays["expected"].dtype.kind != "f":
            raise ValueError("its arrays do not fit together")
    except OSError as error:
        raise InputError(f"{folder} is no bundle: {error.strerror or error}") from None
    except Exception as error:  # numpy, zip and JSON have no common exception
        raise InputError(f"{folder} is a damaged bundle ({type(error).__name__})") from None
    return model, arrays, facts


def replayed(folder: Path) -> Tuple[float, Dict[str, Any]]:
    """The largest error that a bundle shows here, and its facts. Raises InputError, EngineError."""
    model, arrays, facts = read(folder)
    runner = client().prepare(RUNTIME, model, HOW[RUNTIME])
    inputs = [f"input {number}" for number in range(len(runner.input_names))]
    if not set(inputs) <= set(arrays):
        raise InputError(
            f"{folder} is a damaged bundle: its part takes {len(inputs)} inputs, and not all of them are there"
        )
    found, *more = runner.call(dict(zip(runner.input_names, (arrays[name] for name in inputs)))).values()
    if more or found.shape != arrays["expected"].shape or found.dtype.kind != "f":
        raise InputError(f"{folder} is a damaged bundle: its part gives {found.dtype} {found.shape}")
    error = np.abs(found.astype(np.float64) - arrays["expected"])[arrays["judged"].astype(bool)]
    return float(error.max(initial=0.0)), facts
