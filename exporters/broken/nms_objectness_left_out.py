"""The score is the class score alone: objectness is left out (issue 3; museum 033)."""

from __future__ import annotations

import onnx

from exporters.broken import edits

CAUGHT_BY = ("nms.detections", "nms.tail")
VARIANT = "end2end-ort-dynamic-batch"
SAYS = "no candidate"


def plant(model: onnx.ModelProto) -> onnx.ModelProto:
    edits.replace(
        model,
        next(n for n in edits.nodes(model, "Mul") if n.output[0] == "nms/score"),
        lambda x, op: op("Identity", "nms/best_score"),
    )
    return model
