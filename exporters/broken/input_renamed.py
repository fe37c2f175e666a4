"""The input is called by another name (museum 005, keys that apply to nothing)."""

from __future__ import annotations

import onnx

from exporters.broken import edits

CAUGHT_BY = ("structure.inputs",)
VARIANT = "grid"


def plant(model: onnx.ModelProto) -> onnx.ModelProto:
    edits.rename(model, {"images": "image"})
    return model
