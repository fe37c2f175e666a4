"""Scores get a second sigmoid (issue 3, any plugin attribute changed)."""

from __future__ import annotations

import onnx

from exporters.broken import edits

CAUGHT_BY = ("nms.attributes",)
VARIANT = "end2end-trt-dynamic-batch"
SAYS = "score_activation"


def plant(model: onnx.ModelProto) -> onnx.ModelProto:
    node = edits.nodes(model, "EfficientNMS_TRT")[0]
    edits.set_attribute(node, "score_activation", 1)
    return model
