"""The batch has a name the exporter made up (museum 060)."""

from __future__ import annotations

import onnx

from exporters.broken import edits

CAUGHT_BY = ("structure.axes",)
VARIANT = "grid-dynamic-batch"
SAYS = "another name than 'batch'"


def plant(model: onnx.ModelProto) -> onnx.ModelProto:
    edits.set_axis(model.graph.input[0], 0, "s77")
    edits.set_axis(model.graph.output[0], 0, "s77")
    return model
