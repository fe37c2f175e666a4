"""ExecuTorch on the CPU, for .pte programs: the method `forward`, with whatever backends its file was lowered to."""

from __future__ import annotations

from importlib import metadata
from pathlib import Path
from typing import Any, Tuple, Union

import numpy as np
import torch
from executorch.runtime import Runtime

from detparity.artifacts.runtime_file import Port, RuntimeFile
from detparity.core.errors import EngineError
from detparity.core.precision import FLOAT32, HALVES
from detparity.core.vocabulary import Arrays, Load, Runner
from detparity.engines.executorch_types import stored

METHOD = "forward"
TYPES = {
    3: "int32",
    4: "int64",
    5: "float16",
    6: "float32",
    7: "float64",
    11: "bool",
    15: "bfloat16",
}  # torch's ScalarType


def read(path: str) -> RuntimeFile:
    """The facts of a program. Raises EngineError where it does not load."""
    _, method = _loaded(path)
    about = method.metadata
    inputs = tuple(_port(f"input_{k}", about.input_tensor_meta(k)) for k in range(about.num_inputs()))
    outputs = tuple(_port(f"output_{k}", about.output_tensor_meta(k)) for k in range(about.num_outputs()))
    weights = _stored(path, inputs)
    return RuntimeFile(inputs, outputs, weights, weights in ("int8", "uint8", "int4"))


def _stored(path: str, inputs: Tuple[Port, ...]) -> str:
    """The type of most of its weights; where no backend that is known holds any, that of its image."""
    found = stored(Path(path).read_bytes())
    if found:
        return max(found, key=lambda kind: found[kind])
    return next((one.dtype for one in inputs if one.dtype in HALVES), FLOAT32)


def prepare(source: Union[str, Path], how: Load = Load()) -> Runner:
    """Load a program. Raises EngineError if it does not load or run."""
    program, method = _loaded(str(source))
    names = tuple(f"input_{k}" for k in range(method.metadata.num_inputs()))

    def call(feed: Arrays) -> Arrays:
        try:
            found = method.execute([torch.from_numpy(np.ascontiguousarray(feed[name])) for name in names])
        except Exception as error:
            raise EngineError(" ".join(str(error).split())[:600]) from None
        return {f"output_{k}": tensor.numpy().copy() for k, tensor in enumerate(found)}

    facts = {
        "executorch": metadata.version("executorch"),
        "device": "CPU",
        "threads": "default",
        "precision": read(str(source)).weights,
        "backends": ", ".join(_backends(Path(source))) or "none",
    }
    held = (program, method)  # a method lives as long as its program
    return Runner("executorch", lambda feed: call(feed) if held else {}, facts, names)


def _loaded(path: str) -> Tuple[Any, Any]:
    try:
        program = Runtime.get().load_program(Path(path))
        return program, program.load_method(METHOD)
    except Exception as error:
        raise EngineError(" ".join(str(error).split())[:600]) from None


def _port(name: str, about: Any) -> Port:
    kind = about.dtype()
    return Port(name, tuple(int(side) for side in about.sizes()), TYPES.get(int(kind), str(kind)))


def _backends(path: Path) -> Tuple[str, ...]:
    """Backends of this runtime that a file names."""
    names = Runtime.get().backend_registry.registered_backend_names
    content = path.read_bytes()
    return tuple(name for name in names if name.encode() in content)
