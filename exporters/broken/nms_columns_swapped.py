"""Class and score have changed places (issue 3; museum 025)."""

from __future__ import annotations

import onnx

from exporters.broken import edits

CAUGHT_BY = ("nms.detections", "nms.tail")
VARIANT = "end2end-ort"


def plant(model: onnx.ModelProto) -> onnx.ModelProto:
    concat = next(n for n in edits.nodes(model, "Concat") if n.output[0] == "output")
    concat.input[2], concat.input[3] = concat.input[3], concat.input[2]
    return model
