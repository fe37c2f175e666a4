"""Objectness is left out of the plugin's scores (issue 3)."""

from __future__ import annotations

import onnx

from exporters.broken import edits

CAUGHT_BY = ("nms.detections", "nms.tail")
VARIANT = "end2end-trt-dynamic-batch"


def plant(model: onnx.ModelProto) -> onnx.ModelProto:
    edits.splice(model, "nms/scores", lambda x, op: op("Identity", "nms/classes"))
    edits.prune(model)
    return model
