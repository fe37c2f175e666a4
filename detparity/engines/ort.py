"""ONNX Runtime on the CPU: graph optimisation and thread count are choices, the provider that ran is recorded."""

from __future__ import annotations

import re
import threading
from typing import Callable, Dict, Optional, Union

import numpy as np
import onnxruntime as ort

from detparity.subject import Arrays, EngineError, Runner

_LEVELS = {
    "all": ort.GraphOptimizationLevel.ORT_ENABLE_ALL,
    "disabled": ort.GraphOptimizationLevel.ORT_DISABLE_ALL,
}


_PREAMBLE = re.compile(r"^\[ONNXRuntimeError\] : \d+ : [A-Z_]+ : (Exception during initialization: )?")
_SOURCE = re.compile(r"\S*/onnxruntime\S*?\.(h|cc):\d+ (?:[\w:<>&*~, ]+\([^)]*\)(?: \[[^\]]*\])? )?")


def one_line(error: Exception) -> str:
    """The runtime's reason in one line, without its error code and the places in its own sources."""
    return _SOURCE.sub("", _PREAMBLE.sub("", " ".join(str(error).split())))


def prepare(
    model: Union[str, bytes], optimisation: str = "all", threads: int = 0, seconds: Optional[float] = None
) -> Runner:
    """Load a path or the bytes of a model. optimisation: "all" or "disabled"; threads: 0 leaves the choice to the runtime;
    seconds: after which a call is ended, for files whose loops may have no end.

    Raises EngineError with the runtime's own reason if it does not load.
    """
    options = ort.SessionOptions()
    options.graph_optimization_level = _LEVELS[optimisation]
    options.log_severity_level = 4  # its complaints reach the reader as findings
    # Waiting threads sleep: spinning ones starve every other process of a shared machine, our own workers among them.
    options.add_session_config_entry("session.intra_op.allow_spinning", "0")
    if threads:
        options.intra_op_num_threads = threads
    try:
        session = ort.InferenceSession(model, options, providers=["CPUExecutionProvider"])
    except Exception as error:  # onnxruntime raises half a dozen unrelated types here
        raise EngineError(one_line(error)) from None
    names = [output.name for output in session.get_outputs()]

    def call(feed: Arrays) -> Arrays:
        told = ort.RunOptions()
        timer = threading.Timer(seconds, setattr, (told, "terminate", True)) if seconds else None
        if timer:
            timer.start()
        try:
            values = session.run(names, dict(feed), told)
        except Exception as error:
            if told.terminate:
                raise EngineError(f"it was still running after {seconds:g} seconds") from None
            raise EngineError(one_line(error)) from None
        finally:
            if timer:
                timer.cancel()
        return {name: np.array(value) for name, value in zip(names, values)}

    facts = {
        "provider": ", ".join(session.get_providers()),
        "optimisation": optimisation,
        "threads": str(threads or "default"),
        "onnxruntime": ort.__version__,
    }
    return Runner("onnxruntime", call, facts, tuple(value.name for value in session.get_inputs()))


def newest(smallest: Callable[[int, int], bytes]) -> Dict[str, int]:
    """The newest IR version and default-domain opset this runtime loads; `smallest` makes a model of two such versions."""
    return {
        "ort_ir": _last(7, lambda number: smallest(number, 12)),
        "ort_opset": _last(12, lambda number: smallest(7, number)),
    }


def _last(known: int, make: Callable[[int], bytes]) -> int:
    """The last number from `known` on whose model loads."""
    while True:
        try:
            prepare(make(known + 1))
        except EngineError:
            return known
        known += 1
