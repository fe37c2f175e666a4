"""Every detection is said to be of image 0 (museum 038)."""

from __future__ import annotations

import onnx

from exporters.broken import edits

CAUGHT_BY = ("nms.batches", "nms.tail")
UNSEEN_BY = ("nms.detections",)
VARIANT = "end2end-ort-dynamic-batch"


def plant(model: onnx.ModelProto) -> onnx.ModelProto:
    concat = next(n for n in edits.nodes(model, "Concat") if n.output[0] == "output")
    edits.splice(model, concat.input[0], lambda x, op: op("Mul", x, 0.0))
    return model
