"""The two parts of the onnx package that walk a file in C++: its checker and its shape inference. Run in the child process alone."""

from __future__ import annotations

import contextlib
import math
from pathlib import Path
from typing import Optional

import onnx
from onnx import shape_inference

SMALL = 10_000  # numbers of a constant that may be a shape


def problem(path: Path) -> Optional[str]:
    """What the checker says of the file, in one line; None where it finds nothing.

    It is given the content first: it reads a file itself letter by letter, 148 MB in 2.9 s where this takes 0.3. Data beside the file
    are found by its path alone.
    """
    with contextlib.suppress(Exception):
        onnx.checker.check_model(path.read_bytes(), full_check=True)
        return None
    try:
        onnx.checker.check_model(str(path), full_check=True)
    except Exception as error:  # ValidationError, InferenceError and others share no base
        return " ".join(str(error).split())
    return None


def inferred(path: Path) -> Optional[bytes]:
    """Shapes from the operators alone, as a serialised graph without nodes and constants: what the file declares of inner values and
    outputs is set aside first. None where onnx infers nothing."""
    model = onnx.load(str(path))
    _leave_out_weights(model.graph)
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


def _leave_out_weights(graph: onnx.GraphProto) -> None:
    """Replace each large constant by an input of its type and shape, all that inference reads of it: onnx would copy it twice."""
    inputs = {value.name for value in graph.input}
    small = []
    for tensor in graph.initializer:
        if math.prod(tensor.dims) <= SMALL:
            small.append(tensor)
        elif tensor.name not in inputs:
            graph.input.append(onnx.helper.make_tensor_value_info(tensor.name, tensor.data_type, list(tensor.dims)))
    del graph.initializer[:]
    graph.initializer.extend(small)
