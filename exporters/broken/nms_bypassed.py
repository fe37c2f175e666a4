"""Suppression is left out: every candidate comes through (issue 3; museum 054)."""

from __future__ import annotations

import numpy as np
import onnx

from exporters.broken import edits

CAUGHT_BY = ("nms.operator",)
VARIANT = "end2end-ort"
SAYS = "nothing is suppressed"


def plant(model: onnx.ModelProto) -> onnx.ModelProto:
    node = edits.nodes(model, "NonMaxSuppression")[0]

    def build(x: str, op: edits.Op) -> str:
        count = op("Gather", op("Shape", x), np.asarray(1, np.int64), axis=0)
        rows = op("Unsqueeze", op("Range", np.asarray(0, np.int64), count, np.asarray(1, np.int64)), axes=[1])
        zeros = op("Mul", rows, np.asarray(0, np.int64))
        return op("Concat", zeros, zeros, rows, axis=1)

    edits.replace(model, node, build)
    edits.prune(model)
    return model
