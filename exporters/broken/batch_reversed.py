"""The images of a batch come out in the opposite order (museum 043, wrong rows for a batch above 1)."""

from __future__ import annotations

import numpy as np
import onnx

from exporters.broken import edits

CAUGHT_BY = ("parity.isolation", "parity.batches")
UNSEEN_BY = ("parity.declared",)
VARIANT = "grid-dynamic"


def plant(model: onnx.ModelProto) -> onnx.ModelProto:
    def reverse(x: str, op: edits.Op) -> str:
        first, last, step = np.array([-1], np.int64), np.array([np.iinfo(np.int64).min + 1], np.int64), [-1]
        return op("Slice", x, first, last, np.array([0], np.int64), np.array(step, np.int64))

    edits.splice(model, "output", reverse)
    return model
