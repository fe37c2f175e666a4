"""The levels' logits leak out beside the predictions (issue 2; museum 027)."""

from __future__ import annotations

import onnx
from onnx import helper

from exporters.broken import edits

CAUGHT_BY = ("structure.outputs", "parity.declared")
VARIANT = "grid"


def plant(model: onnx.ModelProto) -> onnx.ModelProto:
    logits = edits.nodes(model, "Sigmoid")[0].input[0]
    shape = [1, 3, 32, 40, edits.fields(model)]
    model.graph.output.append(helper.make_tensor_value_info(logits, onnx.TensorProto.FLOAT, shape))
    return model
