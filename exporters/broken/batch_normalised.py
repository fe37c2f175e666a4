"""Images are scaled by the largest mean of their batch, which is an image's own where it is alone (museum 037)."""

from __future__ import annotations

import onnx

from exporters.broken import edits

CAUGHT_BY = ("parity.isolation", "parity.batches")
VARIANT = "raw-dynamic"


def plant(model: onnx.ModelProto) -> onnx.ModelProto:
    def scaled(x: str, op: edits.Op) -> str:
        means = op("ReduceMean", x, axes=[1, 2, 3], keepdims=1)
        return op("Mul", x, op("Div", means, op("ReduceMax", means, axes=[0], keepdims=1)))

    edits.splice(model, "images", scaled)
    return model
