"""Enlarging takes pixel centres where the model takes corners, and still rounds down (museum 074)."""

from __future__ import annotations

import onnx

from exporters.broken import edits

CAUGHT_BY = ("parity.declared",)
VARIANT = "grid-dynamic"


def plant(model: onnx.ModelProto) -> onnx.ModelProto:
    edits.set_attribute(edits.nodes(model, "Resize")[1], "coordinate_transformation_mode", "half_pixel")
    return model
