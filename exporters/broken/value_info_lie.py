"""The declared shape of an inner value is not the one its operator makes (museum 013)."""

from __future__ import annotations

import onnx
from onnx import helper

from exporters.broken import edits

CAUGHT_BY = ("structure.inferred",)
VARIANT = "grid"


def plant(model: onnx.ModelProto) -> onnx.ModelProto:
    inner = edits.nodes(model, "LeakyRelu")[0].output[0]
    model.graph.value_info.append(helper.make_tensor_value_info(inner, onnx.TensorProto.FLOAT, [1, 8, 128, 161]))
    return model
