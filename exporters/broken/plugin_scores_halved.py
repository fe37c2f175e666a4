"""The scores are scaled behind the plugin (museum 051)."""

from __future__ import annotations

import onnx

from exporters.broken import edits

CAUGHT_BY = ("nms.detections", "nms.tail")
VARIANT = "end2end-trt-dynamic-batch"


def plant(model: onnx.ModelProto) -> onnx.ModelProto:
    edits.splice(model, "det_scores", lambda x, op: op("Mul", x, 0.5))
    return model
