"""Centres and sizes are read as corners (issue 3, any plugin attribute changed)."""

from __future__ import annotations

import onnx

from exporters.broken import edits

CAUGHT_BY = ("nms.attributes", "nms.tail")
VARIANT = "end2end-trt-dynamic-batch"
SAYS = "box_coding"


def plant(model: onnx.ModelProto) -> onnx.ModelProto:
    node = edits.nodes(model, "EfficientNMS_TRT")[0]
    edits.set_attribute(node, "box_coding", 0)
    return model
