"""The first convolution's weights are 1e-4 too large (issue 2; museum 079, numbers moved by a simplifier)."""

from __future__ import annotations

import numpy as np
import onnx

from exporters.broken import edits

CAUGHT_BY = ("structure.weights", "parity.declared")
VARIANT = "grid"
SAYS = "multiplied by 1.0001"


def plant(model: onnx.ModelProto) -> onnx.ModelProto:
    name = edits.weight(model, 0)
    edits.set_value(model, name, edits.value_of(model, name) * np.float32(1.0001))
    return model
