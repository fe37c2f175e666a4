"""The plugin asks for another score (issue 3)."""

from __future__ import annotations

import onnx

from exporters.broken import edits

CAUGHT_BY = ("nms.thresholds", "nms.tail")
VARIANT = "end2end-trt"
SAYS = "score threshold 0.24"


def plant(model: onnx.ModelProto) -> onnx.ModelProto:
    node = edits.nodes(model, "EfficientNMS_TRT")[0]
    edits.set_attribute(node, "score_threshold", 0.24)
    return model
