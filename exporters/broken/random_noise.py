"""Random numbers of 1e-3 are added to the output (museum 099, the second run differs)."""

from __future__ import annotations

import onnx

from exporters.broken import edits

CAUGHT_BY = ("structure.operators", "parity.declared")
VARIANT = "grid-dynamic"
SAYS = "RandomNormalLike"


def plant(model: onnx.ModelProto) -> onnx.ModelProto:
    edits.splice(model, "output", lambda x, op: op("Add", x, op("Mul", op("RandomNormalLike", x), 1e-3)))
    return model
