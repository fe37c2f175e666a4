"""Random numbers far below the noise of float32 change the last bits from call to call (museum 099)."""

from __future__ import annotations

import onnx

from exporters.broken import edits

CAUGHT_BY = ("structure.operators", "parity.repeat")
UNSEEN_BY = ("parity.declared",)
VARIANT = "raw"
SAYS = "other bits on call 2"


def plant(model: onnx.ModelProto) -> onnx.ModelProto:
    edits.splice(model, "output", lambda x, op: op("Add", x, op("Mul", op("RandomNormalLike", x), 1e-8)))
    return model
