"""The metadata says stride 64 where the model has 32 (museum 036)."""

from __future__ import annotations

import onnx

from exporters.broken import edits

CAUGHT_BY = ("structure.metadata",)
VARIANT = "grid"
SAYS = "64"


def plant(model: onnx.ModelProto) -> onnx.ModelProto:
    edits.set_metadata(model, stride="64")
    return model
