"""The class offset is one pixel (issue 3; museum 045)."""

from __future__ import annotations

import numpy as np
import onnx

from exporters.broken import edits

CAUGHT_BY = ("nms.thresholds", "nms.class-offset")
VARIANT = "end2end-ort"
SAYS = "the smallest safe offset is"


def plant(model: onnx.ModelProto) -> onnx.ModelProto:
    edits.set_value(model, "nms/max_wh", np.asarray(1.0, np.float32))
    return model
