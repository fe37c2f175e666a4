"""The output is called by another name (museum 064)."""

from __future__ import annotations

import onnx

from exporters.broken import edits

CAUGHT_BY = ("structure.outputs",)
VARIANT = "grid"


def plant(model: onnx.ModelProto) -> onnx.ModelProto:
    edits.rename(model, {"output": "predictions"})
    return model
