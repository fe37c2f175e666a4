"""The rows are called by the batch's name (museum 003)."""

from __future__ import annotations

import onnx

from exporters.broken import edits

CAUGHT_BY = ("structure.axes", "structure.shapes")
VARIANT = "grid-dynamic"
SAYS = "the name of another number"


def plant(model: onnx.ModelProto) -> onnx.ModelProto:
    edits.set_axis(model.graph.output[0], 1, "batch")
    return model
