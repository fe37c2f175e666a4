"""Enlarging rounds up where the model rounds down: everything behind it is one pixel off (museum 074)."""

from __future__ import annotations

import onnx

from exporters.broken import edits

CAUGHT_BY = ("parity.declared",)
VARIANT = "raw"


def plant(model: onnx.ModelProto) -> onnx.ModelProto:
    edits.set_attribute(edits.nodes(model, "Resize")[0], "nearest_mode", "ceil")
    return model
