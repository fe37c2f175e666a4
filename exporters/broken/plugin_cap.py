"""The plugin gives one detection more than declared (issue 3)."""

from __future__ import annotations

import onnx

from exporters.broken import edits

CAUGHT_BY = ("nms.thresholds",)
VARIANT = "end2end-trt"
SAYS = "cap per image 101"


def plant(model: onnx.ModelProto) -> onnx.ModelProto:
    node = edits.nodes(model, "EfficientNMS_TRT")[0]
    edits.set_attribute(node, "max_output_boxes", 101)
    return model
