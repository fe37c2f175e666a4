"""Two inputs of a Concat have changed places (museum 065, channel order of space-to-depth)."""

from __future__ import annotations

import onnx

from exporters.broken import edits

CAUGHT_BY = ("parity.declared",)
VARIANT = "raw-dynamic"


def plant(model: onnx.ModelProto) -> onnx.ModelProto:
    node = edits.nodes(model, "Concat")[0]
    node.input[1], node.input[2] = node.input[2], node.input[1]
    return model
