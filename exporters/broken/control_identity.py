"""Control: weights reach their convolutions through Identity nodes, as constant folding in torch 1.12 leaves them (museum 070)."""

from __future__ import annotations

import onnx

from exporters.broken import edits

CAUGHT_BY = ()
VARIANT = "raw-dynamic"


def plant(model: onnx.ModelProto) -> onnx.ModelProto:
    for index in (0, 7, 30):
        edits.splice(model, edits.weight(model, index), lambda x, op: op("Identity", x))
        edits.splice(model, edits.bias(model, index), lambda x, op: op("Identity", op("Identity", x)))
    return model
