"""The input says float16 and nothing else was changed: a test that reads the file is content, a run is not (museum 084)."""

from __future__ import annotations

import onnx

CAUGHT_BY = ("structure.inputs", "structure.load")
VARIANT = "grid"


def plant(model: onnx.ModelProto) -> onnx.ModelProto:
    model.graph.input[0].type.tensor_type.elem_type = onnx.TensorProto.FLOAT16
    return model
