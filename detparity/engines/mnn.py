"""MNN on the CPU, for .mnn files.

Only its runtime is imported, never `MNN.tools`: that part of the package installs another one when it is imported, and reports to a
server. Options: MNN's ScheduleConfig.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any, Dict, Tuple, Union

import MNN
import numpy as np

from detparity.artifacts.runtime_file import Port, RuntimeFile
from detparity.core.errors import EngineError
from detparity.core.runtimes import runtime_files
from detparity.core.vocabulary import Arrays, Load, Runner
from detparity.engines.mnn_types import stored

FIRST = MNN.Tensor_DimensionType_Caffe  # channels first


def read(path: str) -> RuntimeFile:
    """The facts of a file. Raises EngineError where it does not load."""
    net, session = _loaded(path, {})
    found, integers = _stored(path)
    kind = _most(found)
    inputs = tuple(_port(name, one) for name, one in net.getSessionInputAll(session).items())
    outputs = tuple(_port(name, one) for name, one in net.getSessionOutputAll(session).items())
    return RuntimeFile(inputs, outputs, kind, integers or kind == "int8")


def prepare(source: Union[str, Path], how: Load = Load()) -> Runner:
    """Load a file. Raises EngineError if it does not load or run."""
    settings: Dict[str, Any] = {"backend": "CPU", **({"numThread": how.threads} if how.threads else {})}
    settings.update({"precision": "high", "memory": "high"} if how.precision == "float32" else {})
    net, session = _loaded(str(source), settings)
    inputs = net.getSessionInputAll(session)
    declared = {name: tuple(one.getShape()) for name, one in inputs.items()}

    def call(feed: Arrays) -> Arrays:
        given = {name: np.ascontiguousarray(feed[name], np.float32) for name in inputs}
        for name, array in given.items():
            _shaped(net, session, inputs[name], declared[name], array.shape)
            inputs[name].copyFrom(MNN.Tensor(array.shape, MNN.Halide_Type_Float, array, FIRST))
        if net.runSession(session):
            raise EngineError("MNN does not compute it")
        return {name: _read(one) for name, one in net.getSessionOutputAll(session).items()}

    return Runner("mnn", call, _facts(str(source), how), tuple(inputs))


def _shaped(net: Any, session: Any, tensor: Any, declared: Tuple[int, ...], shape: Tuple[int, ...]) -> None:
    """Resize the axes that vary. One that does not is refused: MNN would print what fails and return its last numbers."""
    if len(shape) != len(declared) or any(side > 0 and side != asked for side, asked in zip(declared, shape)):
        raise EngineError(f"MNN is given {shape} where the file takes {declared}")
    if tuple(tensor.getShape()) != shape:
        net.resizeTensor(tensor, shape)
        net.resizeSession(session)


def _read(tensor: Any) -> np.ndarray:
    """An output as numpy has it, channels first."""
    shape = tuple(tensor.getShape())
    held = MNN.Tensor(shape, tensor.getDataType(), np.zeros(shape, np.float32), FIRST)
    tensor.copyToHostTensor(held)
    return np.array(held.getNumpyData()).reshape(shape)


def _loaded(path: str, settings: Dict[str, Any]) -> Tuple[Any, Any]:
    found = runtime_files(Path(path))
    try:
        net = MNN.Interpreter(path if found is None else str(found.files[0]))
        session = net.createSession(settings)
    except Exception as error:  # it raises no class of its own
        raise EngineError(" ".join(str(error).split())[:600]) from None
    if session is None or not net.getSessionOutputAll(session):
        raise EngineError("MNN makes no session of it")
    return net, session


def _stored(path: str) -> Tuple[Dict[str, int], bool]:
    found = runtime_files(Path(path))
    own = Path(path) if found is None else found.files[0]
    try:
        return stored(own.read_bytes())
    except Exception as error:  # offsets that lead out of the file
        raise EngineError(f"its tables do not follow MNN's schema ({type(error).__name__})") from None


def _most(found: Dict[str, int]) -> str:
    return max(found, key=lambda kind: found[kind], default="float32")


def _port(name: str, tensor: Any) -> Port:
    if tensor.getDataType() != MNN.Halide_Type_Float:
        return Port(name, tuple(tensor.getShape()), "not float32")
    return Port(name, tuple(int(side) if side > 0 else -1 for side in tensor.getShape()))


def _facts(path: str, how: Load) -> Dict[str, str]:
    """What is set: MNN does not report in which precision a layer ran, which its processor decides by default."""
    found, integers = _stored(path)
    return {
        "mnn": str(MNN.version()),
        "device": "CPU",
        "threads": str(how.threads or "default"),
        "precision": "int8" if integers else "float32" if how.precision else "",
        "asked for": how.precision or "nothing",
        "weights": _most(found),
    }
