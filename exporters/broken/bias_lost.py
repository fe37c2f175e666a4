"""The batch-norm's share of one convolution's bias is lost: the bias is zero (museum 030)."""

from __future__ import annotations

import numpy as np
import onnx

from exporters.broken import edits

CAUGHT_BY = ("structure.weights", "parity.declared")
VARIANT = "grid-dynamic"
SAYS = "set to zero"


def plant(model: onnx.ModelProto) -> onnx.ModelProto:
    name = edits.bias(model, 12)
    edits.set_value(model, name, np.zeros_like(edits.value_of(model, name)))
    return model
