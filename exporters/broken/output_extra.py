"""The levels' logits leak out beside the predictions (issue 2; museum 027)."""

from __future__ import annotations

import onnx
from onnx import helper

from exporters.broken import edits

CAUGHT_BY = ("structure.outputs", "parity.declared")
VARIANT = "grid"


def plant(model: onnx.ModelProto) -> onnx.ModelProto:
    logits = edits.nodes(model, "Sigmoid")[0].input[0]
    model.graph.output.append(helper.make_tensor_value_info(logits, onnx.TensorProto.FLOAT, [1, 3, 32, 40, 85]))
    return model
