"""An initializer is left that nothing reads (museum 081, what a simplifier release leaves behind)."""

from __future__ import annotations

import numpy as np
import onnx

from exporters.broken import edits

CAUGHT_BY = ("structure.initializers",)
VARIANT = "raw"


def plant(model: onnx.ModelProto) -> onnx.ModelProto:
    edits.add_constant(model, np.ones((4, 4), np.float32))
    return model
