"""Class scores are already multiplied by objectness, and the consumer will do it again (museum 033)."""

from __future__ import annotations

import onnx

from exporters.broken import edits

CAUGHT_BY = ("parity.declared",)
VARIANT = "grid"
SAYS = "class at stride 8, 16, 32"


def plant(model: onnx.ModelProto) -> onnx.ModelProto:
    def multiplied(x: str, op: edits.Op) -> str:
        scores = op("Mul", edits.cut(op, x, 5, edits.END, -1), edits.cut(op, x, 4, 5, -1))
        return op("Concat", edits.cut(op, x, 0, 5, -1), scores, axis=-1)

    edits.splice(model, "output", multiplied)
    return model
