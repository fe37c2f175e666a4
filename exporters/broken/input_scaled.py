"""The division by 255 is in the graph although the promised input is in 0..1 (issue 2)."""

from __future__ import annotations

import onnx

from exporters.broken import edits

CAUGHT_BY = ("parity.declared",)
VARIANT = "grid-dynamic"


def plant(model: onnx.ModelProto) -> onnx.ModelProto:
    edits.splice(model, "images", lambda x, op: op("Div", x, 255.0))
    return model
