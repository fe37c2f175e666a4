"""The last head convolution's weights are 1e-4 too small (issue 2)."""

from __future__ import annotations

import numpy as np
import onnx

from exporters.broken import edits

CAUGHT_BY = ("structure.weights", "parity.declared")
VARIANT = "raw"
SAYS = "multiplied by 0.9999"


def plant(model: onnx.ModelProto) -> onnx.ModelProto:
    name = edits.weight(model, -1)
    edits.set_value(model, name, edits.value_of(model, name) * np.float32(0.9999))
    return model
