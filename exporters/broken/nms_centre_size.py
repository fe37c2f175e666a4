"""Boxes come out as centre and size (issue 3; museum 049)."""

from __future__ import annotations

import onnx

from exporters.broken import edits

CAUGHT_BY = ("nms.detections", "nms.tail")
VARIANT = "end2end-ort"


def plant(model: onnx.ModelProto) -> onnx.ModelProto:
    concat = next(n for n in edits.nodes(model, "Concat") if n.output[0] == "output")

    def build(x: str, op: edits.Op) -> str:
        low, high = edits.cut(op, x, 0, 2, 1), edits.cut(op, x, 2, 4, 1)
        return op("Concat", op("Mul", op("Add", low, high), 0.5), op("Sub", high, low), axis=1)

    edits.splice(model, concat.input[1], build)
    return model
