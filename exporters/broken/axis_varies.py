"""The batch is a symbol in a file that promises a fixed one (museum 002)."""

from __future__ import annotations

import onnx

from exporters.broken import edits

CAUGHT_BY = ("structure.axes",)
VARIANT = "grid"
SAYS = "a symbol where 1 is promised"


def plant(model: onnx.ModelProto) -> onnx.ModelProto:
    edits.set_axis(model.graph.input[0], 0, "batch")
    edits.set_axis(model.graph.output[0], 0, "batch")
    return model
