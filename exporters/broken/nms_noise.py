"""Random numbers of 1e-3 are added to the scores (museum 099, the second run differs)."""

from __future__ import annotations

import onnx

from exporters.broken import edits

CAUGHT_BY = ("nms.repeat", "structure.operators")
VARIANT = "end2end-ort"


def plant(model: onnx.ModelProto) -> onnx.ModelProto:
    edits.splice(model, "nms/score", lambda x, op: op("Add", x, op("Mul", op("RandomNormalLike", x), 1e-3)))
    return model
