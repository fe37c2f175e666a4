"""The weights of a convolution in the middle are off by 1e-4 of each value, some up and some down (issue 2)."""

from __future__ import annotations

import numpy as np
import onnx

from exporters.broken import edits

CAUGHT_BY = ("structure.weights", "parity.declared")
VARIANT = "grid-dynamic"
SAYS = "values differ"


def plant(model: onnx.ModelProto) -> onnx.ModelProto:
    name = edits.weight(model, 25)
    values = edits.value_of(model, name)
    signs = np.where(np.random.default_rng(0).random(values.shape) < 0.5, -1, 1)
    edits.set_value(model, name, (values * (1 + 1e-4 * signs)).astype(np.float32))
    return model
