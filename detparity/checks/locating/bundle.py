"""One failing part of a file, small enough for a public issue: the nodes around the fault, what they are given, what they give.

    DIR/part.onnx, DIR/arrays.npz, DIR/facts.json, DIR/replay.py

The part holds the weights of those nodes alone, of a convolution one output channel where that still shows the difference; large
pictures are cut to a window in which the part gives what the complete file gives.
"""

from __future__ import annotations

import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Dict, Mapping, Optional, Sequence, Tuple

import numpy as np

from detparity.artifacts import onnx_fed
from detparity.checks.locating.matching import Noise
from detparity.checks.locating.program import HOW, RUNTIME
from detparity.checks.locating.search import Fault, Search
from detparity.core import environment
from detparity.core.errors import InputError
from detparity.core.files import write_bytes, write_text
from detparity.core.version import __version__
from detparity.core.vocabulary import EngineError
from detparity.engines.remote import client

LARGEST = 200_000  # bytes
WINDOW = 16  # cells of the input, of a window
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
    found = _run(model, names, inputs).reshape(expected.shape)
    noise = Noise(fault.noise, fault.largest)
    if search.program.converted:
        there = search.program.rounded(given, [fault.tensor])[fault.tensor].astype(np.float64)
        if not noise.allows(found, there):
            raise EngineError("the part, as ONNX, gives other numbers than in the program")
    _, allowed = noise.limits(expected)
    return Part(model, tuple(inputs), found, expected, np.ones(expected.shape, bool), allowed)


def _run(model: bytes, names: Sequence[str], inputs: Sequence[np.ndarray]) -> np.ndarray:
    runner = client().prepare(RUNTIME, model, HOW[RUNTIME])
    (found,) = runner.call(dict(zip(names, inputs))).values()
    return found.astype(np.float64)


def smaller(part: Part) -> Part:
    """The same with fewer weights and numbers, where that still shows the difference."""
    for change in (_one_channel, _window):
        try:
            reduced = change(part)
        except Exception:  # the part is of another form: it stays as it is
            continue
        if reduced is not None and reduced.shows:
            part = reduced
    return part


def _one_channel(part: Part) -> Optional[Part]:
    """Of a convolution the output channel that is most wrong."""
    error = np.abs(part.found - part.expected)
    channel = int(np.unravel_index(int(error.argmax()), error.shape)[1])
    model = onnx_fed.one_channel(part.model, channel)
    if model is None:
        return None
    one = slice(channel, channel + 1)
    found = _run(model, list(client().prepare(RUNTIME, model, HOW[RUNTIME]).input_names), part.inputs)
    return Part(model, part.inputs, found, part.expected[:, one], part.judged[:, one], part.allowed)


def _window(part: Part) -> Optional[Part]:
    """A window of (B, C, H, W) inputs of one height and width, around what is most wrong."""
    shapes = {one.shape[2:] for one in part.inputs}
    if any(one.ndim != 4 for one in (*part.inputs, part.found)) or len(shapes) != 1:
        return None
    (size,) = shapes
    rows, columns = (_span(part, axis, size[axis]) for axis in (0, 1))
    inputs = [np.ascontiguousarray(one[:, :, slice(*rows[0]), slice(*columns[0])]) for one in part.inputs]
    model = onnx_fed.without_shapes(part.model)
    names = list(client().prepare(RUNTIME, model, HOW[RUNTIME]).input_names)
    found = _run(model, names, inputs)
    window = (slice(None), slice(None), slice(*rows[1]), slice(*columns[1]))
    before, expected = part.found[window], part.expected[window]
    if found.shape != before.shape:
        return None
    same = np.abs(found - before) <= part.allowed
    return Part(model, tuple(inputs), found, expected, same & part.judged[window], part.allowed)


def _span(part: Part, axis: int, size: int) -> Tuple[Tuple[int, int], Tuple[int, int]]:
    """Where a window begins and ends, in the input and in the output."""
    out = part.found.shape[2 + axis]
    error = np.abs(part.found - part.expected)
    at = int(np.unravel_index(int(error.argmax()), error.shape)[2 + axis])
    if max(size, out) % min(size, out):
        raise ValueError("it is not enlarged or reduced by an integer factor")
    step = max(size // out, 1)
    middle = at * size // out
    start = max(0, min(middle - WINDOW // 2, size - WINDOW)) // step * step
    end = min(start + max(WINDOW, step), size)
    return (start, end), (start * out // size, end * out // size)


def write(folder: Path, part: Part, facts: Mapping[str, Any]) -> int:
    """Write a bundle; how many bytes it takes. Raises InputError where the folder holds something else."""
    if folder.exists() and (not folder.is_dir() or {one.name for one in folder.iterdir()} - set(NAMES)):
        raise InputError(f"{folder} is there and is no bundle: name another folder")
    folder.mkdir(parents=True, exist_ok=True)
    arrays: Dict[str, Any] = {f"input {number}": one for number, one in enumerate(part.inputs)}
    arrays.update(expected=part.expected.astype(np.float32), found=part.found.astype(np.float32), judged=part.judged)
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
