"""The reference evaluator of the onnx package: a second implementation of every operator, in numpy, for small models."""

from __future__ import annotations

from pathlib import Path
from typing import Union

import numpy as np
import onnx
from onnx.reference import ReferenceEvaluator

from detparity.core.vocabulary import Arrays, EngineError, Load, Runner


def _without_empty_roi(model: onnx.ModelProto) -> onnx.ModelProto:
    """Leave out the empty `roi` torch gives every Resize: the evaluator (onnx 1.21) reads its first element regardless."""
    empty = {tensor.name for tensor in model.graph.initializer if 0 in tensor.dims}
    for node in model.graph.node:
        if node.op_type == "Constant" and any(attribute.t.dims[:1] == [0] for attribute in node.attribute):
            empty.update(node.output)
    for node in model.graph.node:
        if node.op_type == "Resize" and len(node.input) > 1 and node.input[1] in empty:
            node.input[1] = ""
    return model


def prepare(source: Union[str, Path], how: Load = Load()) -> Runner:
    """Load a file; there is nothing to choose of how. Raises EngineError with the evaluator's reason if it cannot."""
    try:
        evaluator = ReferenceEvaluator(_without_empty_roi(onnx.load(str(source))))
    except Exception as error:  # the evaluator has no common exception
        raise EngineError(" ".join(str(error).split())) from None

    def call(feed: Arrays) -> Arrays:
        try:
            values = evaluator.run(None, dict(feed))
        except Exception as error:
            raise EngineError(" ".join(str(error).split())) from None
        return {name: np.array(value) for name, value in zip(evaluator.output_names, values)}

    return Runner("reference", call, {"onnx": onnx.__version__}, tuple(evaluator.input_names))
