"""Suppression reads corners as centre and size: center_point_box is set (issue 3; museum 049)."""

from __future__ import annotations

import onnx

from exporters.broken import edits

CAUGHT_BY = ("nms.operator",)
VARIANT = "end2end-ort"
SAYS = "center_point_box 1"


def plant(model: onnx.ModelProto) -> onnx.ModelProto:
    node = edits.nodes(model, "NonMaxSuppression")[0]
    edits.set_attribute(node, "center_point_box", 1)
    return model
