"""Boxes are corners where the promise says centre, width and height (museum 049)."""

from __future__ import annotations

import onnx

from exporters.broken import edits

CAUGHT_BY = ("parity.declared",)
VARIANT = "grid"


def plant(model: onnx.ModelProto) -> onnx.ModelProto:
    def corners(x: str, op: edits.Op) -> str:
        centre, half = edits.cut(op, x, 0, 2, -1), op("Mul", edits.cut(op, x, 2, 4, -1), 0.5)
        return op("Concat", op("Sub", centre, half), op("Add", centre, half), axis=-1)

    edits.on_columns(model, "output", 0, 4, corners)
    return model
