"""Attributes are lists of one number where numbers are promised (museum 046)."""

from __future__ import annotations

import onnx

from exporters.broken import edits

CAUGHT_BY = ("nms.attributes",)
VARIANT = "end2end-trt"
SAYS = "INTS [-1]"


def plant(model: onnx.ModelProto) -> onnx.ModelProto:
    node = edits.nodes(model, "EfficientNMS_TRT")[0]
    edits.set_attribute(node, "background_class", [-1])
    edits.set_attribute(node, "box_coding", [1])
    return model
