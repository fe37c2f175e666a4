"""The input's height is called width and its width height (museum 004)."""

from __future__ import annotations

import onnx

from exporters.broken import edits

CAUGHT_BY = ("structure.axes",)
VARIANT = "grid-dynamic"
SAYS = "another name than 'height' and 1 more"


def plant(model: onnx.ModelProto) -> onnx.ModelProto:
    edits.set_axis(model.graph.input[0], 2, "width")
    edits.set_axis(model.graph.input[0], 3, "height")
    return model
