"""Objectness goes through the sigmoid twice, everything else is right (museum 032)."""

from __future__ import annotations

import onnx

from exporters.broken import edits

CAUGHT_BY = ("parity.declared",)
VARIANT = "grid"
SAYS = "objectness at stride 8, 16, 32"


def plant(model: onnx.ModelProto) -> onnx.ModelProto:
    edits.on_columns(model, "output", 4, 5, lambda x, op: op("Sigmoid", x))
    return model
