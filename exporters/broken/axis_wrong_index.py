"""The batch symbol stands on axis 1 of the output instead of axis 0 (museum 002)."""

from __future__ import annotations

import onnx

from exporters.broken import edits

CAUGHT_BY = ("structure.axes", "structure.shapes")
VARIANT = "grid-dynamic-batch"


def plant(model: onnx.ModelProto) -> onnx.ModelProto:
    edits.set_axis(model.graph.output[0], 0, 1)
    edits.set_axis(model.graph.output[0], 1, "batch")
    return model
