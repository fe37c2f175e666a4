"""The image is divided by its own maximum: noise reaches 1, a dark scene does not (issue 2)."""

from __future__ import annotations

import onnx

from exporters.broken import edits

CAUGHT_BY = ("parity.values",)
VARIANT = "grid-dynamic"


def plant(model: onnx.ModelProto) -> onnx.ModelProto:
    edits.splice(model, "images", lambda x, op: op("Div", x, op("ReduceMax", x, axes=[1, 2, 3], keepdims=1)))
    return model
