"""The IoU threshold is two numbers (museum 040)."""

from __future__ import annotations

import numpy as np
import onnx

from exporters.broken import edits

CAUGHT_BY = ("nms.operator",)
VARIANT = "end2end-ort"
SAYS = "2 numbers where one is promised"


def plant(model: onnx.ModelProto) -> onnx.ModelProto:
    node = edits.nodes(model, "NonMaxSuppression")[0]
    edits.set_value(model, node.input[3], np.array([0.45, 0.45], np.float32))
    return model
