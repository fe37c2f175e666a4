"""The output is float16 (museum 082, one output of another type)."""

from __future__ import annotations

import onnx

from exporters.broken import edits

CAUGHT_BY = ("structure.outputs", "parity.declared")
VARIANT = "grid"
SAYS = "float16"


def plant(model: onnx.ModelProto) -> onnx.ModelProto:
    edits.splice(model, "output", lambda x, op: op("Cast", x, to=onnx.TensorProto.FLOAT16))
    model.graph.output[0].type.tensor_type.elem_type = onnx.TensorProto.FLOAT16
    return model
