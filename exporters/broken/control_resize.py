"""Control: enlarging by pixel centres, rounded to the nearest with ties down: the same pixels at a factor of two (museum 074)."""

from __future__ import annotations

import onnx

from exporters.broken import edits

CAUGHT_BY = ()
VARIANT = "raw-dynamic"


def plant(model: onnx.ModelProto) -> onnx.ModelProto:
    for node in edits.nodes(model, "Resize"):
        edits.set_attribute(node, "coordinate_transformation_mode", "half_pixel")
        edits.set_attribute(node, "nearest_mode", "round_prefer_floor")
    return model
