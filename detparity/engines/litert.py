"""LiteRT (TensorFlow Lite) on the CPU, for .tflite files.

An input or output of 8 bits is given and read through the scale and zero point that the file states for it.
"""

from __future__ import annotations

from collections import Counter
from importlib import metadata
from pathlib import Path
from typing import Any, Dict, List, Union

import numpy as np
from ai_edge_litert.interpreter import Interpreter

from detparity.artifacts.runtime_file import Port, RuntimeFile
from detparity.core.errors import EngineError
from detparity.core.runtimes import runtime_files
from detparity.core.vocabulary import Arrays, Load, Runner


def read(path: str) -> RuntimeFile:
    """The facts of a .tflite file. Raises EngineError where it does not load."""
    interpreter = _loaded(path, 0)
    stored: Counter[str] = Counter()
    for one in interpreter.get_tensor_details():
        stored[np.dtype(one["dtype"]).name] += (
            int(np.prod(one["shape"], dtype=np.int64)) if _constant(interpreter, one) else 0
        )
    floats = {name: stored[name] for name in ("float32", "float16", "int8", "uint8", "int4") if stored[name]}
    weights = max(floats, key=lambda name: floats[name]) if floats else "float32"
    return RuntimeFile(
        tuple(map(_port, interpreter.get_input_details())),
        tuple(map(_port, interpreter.get_output_details())),
        weights,
        weights in ("int8", "uint8", "int4"),
    )


def prepare(source: Union[str, Path], how: Load = Load()) -> Runner:
    """Load a .tflite file. Raises EngineError if it does not load or run."""
    interpreter = _loaded(str(source), how.threads)
    inputs, outputs = interpreter.get_input_details(), interpreter.get_output_details()

    def call(feed: Arrays) -> Arrays:
        try:
            for one in inputs:
                given = _stored(np.asarray(feed[one["name"]]), _port(one))
                if tuple(interpreter.get_input_details()[0]["shape"]) != given.shape:
                    interpreter.resize_tensor_input(one["index"], given.shape)
                    interpreter.allocate_tensors()
                interpreter.set_tensor(one["index"], given)
            interpreter.invoke()
        except (RuntimeError, ValueError) as error:
            raise EngineError(" ".join(str(error).split())[:600]) from None
        return {one["name"]: _read(interpreter.get_tensor(one["index"]), _port(one)) for one in outputs}

    weights = read(str(source)).weights
    facts = {
        "litert": metadata.version("ai-edge-litert"),
        "device": "CPU",
        "threads": str(how.threads or "default"),
        "precision": "float32" if weights in ("float32", "float16") else weights,
        "weights": weights,
    }
    return Runner("litert", call, facts, tuple(one["name"] for one in inputs))


def _loaded(path: str, threads: int) -> Any:
    """Of a file, or of a folder that holds one."""
    found = runtime_files(Path(path))
    own = path if found is None else str(found.files[0])
    try:
        interpreter = Interpreter(model_path=own, num_threads=threads or None)
        interpreter.allocate_tensors()
    except (RuntimeError, ValueError) as error:
        raise EngineError(" ".join(str(error).split())[:600]) from None
    return interpreter


def _constant(interpreter: Any, one: Dict[str, Any]) -> bool:
    """Whether a tensor holds numbers before anything has run."""
    try:
        interpreter.get_tensor(one["index"])
    except ValueError:
        return False
    return bool(one["name"]) and int(np.prod(one["shape"], dtype=np.int64)) > 0


def _port(one: Dict[str, Any]) -> Port:
    declared: List[int] = [int(dim) for dim in one.get("shape_signature", one["shape"])]
    scale, zero = one["quantization"]
    return Port(one["name"], tuple(declared), np.dtype(one["dtype"]).name, float(scale), int(zero))


def _stored(values: np.ndarray, port: Port) -> np.ndarray:
    """Numbers as an input of this type takes them."""
    kind = np.dtype(port.dtype)
    if kind.kind not in "iu" or not port.scale:
        return np.ascontiguousarray(values, kind)
    limits = np.iinfo(kind)
    return np.clip(np.rint(values / port.scale) + port.zero, limits.min, limits.max).astype(kind)


def _read(values: np.ndarray, port: Port) -> np.ndarray:
    """Numbers that an output of this type stands for."""
    if values.dtype.kind not in "iu" or not port.scale:
        return np.array(values)
    return ((values.astype(np.float64) - port.zero) * port.scale).astype(np.float32)
