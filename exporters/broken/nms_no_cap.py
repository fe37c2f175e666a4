"""The cap is left out, which means that nothing comes out (museum 039)."""

from __future__ import annotations

import onnx

from exporters.broken import edits

CAUGHT_BY = ("nms.operator",)
VARIANT = "end2end-ort"
SAYS = "max_output_boxes_per_class"


def plant(model: onnx.ModelProto) -> onnx.ModelProto:
    node = edits.nodes(model, "NonMaxSuppression")[0]
    node.input[2] = ""
    edits.prune(model)
    return model
