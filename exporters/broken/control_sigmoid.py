"""Control: the sigmoid written out as 1 / (1 + exp(-x))."""

from __future__ import annotations

import onnx

from exporters.broken import edits

CAUGHT_BY = ()
VARIANT = "grid-dynamic"


def plant(model: onnx.ModelProto) -> onnx.ModelProto:
    for node in edits.nodes(model, "Sigmoid"):
        edits.replace(model, node, lambda x, op: op("Reciprocal", op("Add", op("Exp", op("Neg", x)), 1.0)))
    return model
