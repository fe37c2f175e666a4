"""Suppression is unrolled image by image: two operators where one is promised (issue 3; museum 006)."""

from __future__ import annotations

import onnx

from exporters.broken import edits

CAUGHT_BY = ("nms.operator",)
VARIANT = "end2end-ort"
SAYS = "has 2 NonMaxSuppression nodes where one is promised"


def plant(model: onnx.ModelProto) -> onnx.ModelProto:
    inputs = list(edits.nodes(model, "NonMaxSuppression")[0].input)

    def build(x: str, op: edits.Op) -> str:
        again = op("NonMaxSuppression", *inputs)
        return op("Concat", x, edits.cut(op, again, 0, 0, 0), axis=0)

    edits.splice(model, "nms/selected", build)
    return model
