"""One leaky activation became a plain Relu (museum 066, an activation without a symbolic)."""

from __future__ import annotations

import onnx

from exporters.broken import edits

CAUGHT_BY = ("parity.declared",)
VARIANT = "grid-dynamic"


def plant(model: onnx.ModelProto) -> onnx.ModelProto:
    edits.replace(model, edits.nodes(model, "LeakyRelu")[7], lambda x, op: op("Relu", x))
    return model
