"""What the child process does for the engines: loads files, runs them, reads what only a native parser can read.

`engines/remote.py` asks; `core/isolate.py` carries requests and replies. Imported in the child alone.
"""

from __future__ import annotations

import dataclasses
import itertools
import os
import time
from pathlib import Path
from typing import Any, Dict, List, Mapping, Tuple

import numpy as np
import torch

from detparity import engines
from detparity.artifacts import onnx_native
from detparity.core.errors import EngineError
from detparity.core.isolate_messages import Arrays, Handler
from detparity.core.vocabulary import Load, Runner
from detparity.engines import efficient_nms, lite, onnx_exact, onnx_reference, onnxruntime, torchscript

# Imported before the server forks, so that no worker waits for them.
PRELOADED = (efficient_nms, lite, onnx_exact, onnx_reference, onnxruntime, torchscript)

WRITING = ("torchscript", "lite")  # engines whose programs can write to their input
_RUNNERS: Dict[int, Runner] = {}
_NUMBERS = itertools.count(1)

Answer = Tuple[Any, Arrays]


def configure(content: Mapping[str, Any], _: Arrays) -> Answer:
    """Settings that the parent has, for this worker. threads: of torch."""
    if content["threads"]:
        torch.set_num_threads(int(content["threads"]))
    if content["bare"]:
        os.environ["DETPARITY_BARE"] = content["bare"]
    return None, {}


def prepare(content: Mapping[str, Any], arrays: Arrays) -> Answer:
    """Load a file, or the bytes of a model. Returns the runner's number and facts."""
    source: Any = arrays["model"].tobytes() if "model" in arrays else Path(content["path"])
    how = Load(**content["how"])
    runner = engines.module(content["engine"]).prepare(source, how)
    number = next(_NUMBERS)
    _RUNNERS[number] = runner
    facts = {"engine": runner.engine, "facts": dict(runner.facts), "input_names": list(runner.input_names)}
    return {"number": number, **facts}, {}


def call(content: Mapping[str, Any], arrays: Arrays) -> Answer:
    """Run what was loaded. The outputs come in the runner's order, then the inputs that it wrote to, as it left them."""
    runner = _RUNNERS[content["number"]]
    given = {name: array.copy() for name, array in arrays.items()} if runner.engine in WRITING else {}
    start = time.perf_counter()
    found = runner.call(arrays)
    seconds = time.perf_counter() - start
    for name, value in found.items():
        if not isinstance(value, np.ndarray) or value.dtype.hasobject:
            raise EngineError(f"its output {name!r} is no array of numbers")
    written = [name for name, array in given.items() if not np.array_equal(array, arrays[name], equal_nan=True)]
    left = {f"input {name}": arrays[name] for name in written}
    return {"order": list(found), "written": written, "seconds": seconds}, {**found, **left}


def release(content: Mapping[str, Any], _: Arrays) -> Answer:
    """Let go of what was loaded under these numbers."""
    for number in content["numbers"]:
        _RUNNERS.pop(number, None)
    return None, {}


def read(content: Mapping[str, Any], _: Arrays) -> Answer:
    """A file of TorchScript or of another runtime as plain facts."""
    found: Dict[str, np.ndarray] = {}
    return packed(engines.module(content["kind"]).read(content["path"]), found), found


def problem(content: Mapping[str, Any], _: Arrays) -> Answer:
    """What onnx's checker says of a file, or None."""
    return onnx_native.problem(Path(content["path"])), {}


def inferred(content: Mapping[str, Any], _: Arrays) -> Answer:
    """The shapes that onnx infers, as a serialised graph; no array where it infers none."""
    found = onnx_native.inferred(Path(content["path"]))
    return None, {} if found is None else {"graph": np.frombuffer(found, np.uint8)}


def newest(content: Mapping[str, Any], _: Arrays) -> Answer:
    """The newest versions that ONNX Runtime loads."""
    from detparity.artifacts.onnx_edit import smallest

    return onnxruntime.newest(smallest), {}


def packed(value: Any, arrays: Dict[str, np.ndarray]) -> Any:
    """A dataclass as JSON can hold it; arrays go into `arrays`, under numbers."""
    if isinstance(value, np.ndarray):
        name = str(len(arrays))
        arrays[name] = np.ascontiguousarray(value).reshape(value.shape)
        return {"array": name}
    if dataclasses.is_dataclass(value) and not isinstance(value, type):
        fields: List[Any] = [packed(getattr(value, field.name), arrays) for field in dataclasses.fields(value)]
        return {"class": type(value).__name__, "fields": fields}
    if isinstance(value, Mapping):
        return {"items": [[key, packed(item, arrays)] for key, item in value.items()]}
    return [packed(item, arrays) for item in value] if isinstance(value, (list, tuple)) else value


HANDLERS: Mapping[str, Handler] = {
    "configure": configure,
    "prepare": prepare,
    "call": call,
    "release": release,
    "read": read,
    "problem": problem,
    "inferred": inferred,
    "newest": newest,
}
