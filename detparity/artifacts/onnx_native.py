"""The two parts of the onnx package that walk a file in C++: its checker and its shape inference. Run in the child process alone."""

from __future__ import annotations

from pathlib import Path
from typing import Optional

import onnx
from onnx import shape_inference


def problem(path: Path) -> Optional[str]:
    """What the checker says of the file, in one line; None where it finds nothing."""
    try:
        onnx.checker.check_model(str(path), full_check=True)
    except Exception as error:  # ValidationError, InferenceError and others share no base
        return " ".join(str(error).split())
    return None


def inferred(path: Path) -> Optional[bytes]:
    """Shapes from the operators alone, as a serialised graph without nodes and constants: what the file declares of inner values and
    outputs is set aside first. None where onnx infers nothing."""
    model = onnx.load(str(path))
    del model.graph.value_info[:]
    for output in model.graph.output:
        output.type.tensor_type.ClearField("shape")
    try:
        graph = shape_inference.infer_shapes(model, data_prop=True).graph
    except Exception:  # inference is an aid: the checker and the runtime report what is wrong with the graph
        return None
    for part in (graph.node, graph.initializer, graph.sparse_initializer):
        del part[:]
    return bytes(graph.SerializeToString())
