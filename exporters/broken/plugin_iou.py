"""The plugin suppresses from another IoU (issue 3)."""

from __future__ import annotations

import onnx

from exporters.broken import edits

CAUGHT_BY = ("nms.thresholds", "nms.tail")
VARIANT = "end2end-trt"
SAYS = "iou threshold 0.46"


def plant(model: onnx.ModelProto) -> onnx.ModelProto:
    node = edits.nodes(model, "EfficientNMS_TRT")[0]
    edits.set_attribute(node, "iou_threshold", 0.46)
    return model
