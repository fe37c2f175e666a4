"""Every image of a batch gets the first one's predictions (museum 006 and 038)."""

from __future__ import annotations

import onnx

from exporters.broken import edits

CAUGHT_BY = ("parity.batches",)
UNSEEN_BY = ("parity.declared", "parity.isolation")
VARIANT = "grid-dynamic"


def plant(model: onnx.ModelProto) -> onnx.ModelProto:
    edits.splice(model, "output", lambda x, op: op("Expand", edits.cut(op, x, 0, 1, 0), op("Shape", x)))
    return model
