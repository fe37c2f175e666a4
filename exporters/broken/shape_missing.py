"""The output declares no shape at all (museum 013)."""

from __future__ import annotations

import onnx

CAUGHT_BY = ("structure.axes",)
VARIANT = "raw"
SAYS = "declares no shape"


def plant(model: onnx.ModelProto) -> onnx.ModelProto:
    model.graph.output[1].type.tensor_type.ClearField("shape")
    return model
