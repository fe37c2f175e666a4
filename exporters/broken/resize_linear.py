"""Enlarging is linear where the model repeats pixels (museum 074)."""

from __future__ import annotations

import onnx

from exporters.broken import edits

CAUGHT_BY = ("parity.declared",)
VARIANT = "grid-dynamic"


def plant(model: onnx.ModelProto) -> onnx.ModelProto:
    edits.set_attribute(edits.nodes(model, "Resize")[0], "mode", "linear")
    return model
