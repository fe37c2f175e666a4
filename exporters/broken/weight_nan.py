"""One number of one convolution is NaN (issue 2)."""

from __future__ import annotations

import numpy as np
import onnx

from exporters.broken import edits

CAUGHT_BY = ("structure.weights", "parity.declared")
VARIANT = "raw"
SAYS = "not finite"


def plant(model: onnx.ModelProto) -> onnx.ModelProto:
    name = edits.weight(model, 10)
    values = edits.value_of(model, name)
    values.flat[3] = np.nan
    edits.set_value(model, name, values)
    return model
