"""The image is scaled by a sum over the same sum, which is nothing, and 0 / 0 where the image is black (museum 052, blank images)."""

from __future__ import annotations

import onnx

from exporters.broken import edits

CAUGHT_BY = ("parity.values",)
UNSEEN_BY = ("parity.declared",)
VARIANT = "grid-dynamic"


def plant(model: onnx.ModelProto) -> onnx.ModelProto:
    def scaled(x: str, op: edits.Op) -> str:
        total = op("ReduceSum", x, axes=[1, 2, 3], keepdims=1)
        return op("Mul", x, op("Div", total, op("Mul", total, 1.0)))

    edits.splice(model, "images", scaled)
    return model
