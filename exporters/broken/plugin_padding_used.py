"""The count of detections is always the cap, so rows that mean nothing are read (issue 3; museum 050)."""

from __future__ import annotations

import numpy as np
import onnx

from exporters.broken import edits

CAUGHT_BY = ("nms.detections", "nms.tail")
VARIANT = "end2end-trt-dynamic-batch"


def plant(model: onnx.ModelProto) -> onnx.ModelProto:
    edits.splice(
        model, "num_dets", lambda x, op: op("Add", op("Mul", x, np.asarray(0, np.int32)), np.asarray(100, np.int32))
    )
    return model
