"""Two convolutions read each other's weights, each tensor intact under its own name (museum 064, names that clash)."""

from __future__ import annotations

import onnx

from exporters.broken import edits

CAUGHT_BY = ("parity.declared",)
VARIANT = "grid-dynamic"


def plant(model: onnx.ModelProto) -> onnx.ModelProto:
    first, second = edits.nodes(model, "Conv")[4:6]
    first.input[1], second.input[1] = second.input[1], first.input[1]
    return model
