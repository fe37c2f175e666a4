"""A max-pool became an average pool (museum 073)."""

from __future__ import annotations

import onnx

from exporters.broken import edits

CAUGHT_BY = ("parity.declared",)
VARIANT = "raw-dynamic"


def plant(model: onnx.ModelProto) -> onnx.ModelProto:
    edits.replace(
        model,
        edits.nodes(model, "MaxPool")[0],
        lambda x, op: op("AveragePool", x, kernel_shape=[2, 2], strides=[2, 2]),
    )
    return model
