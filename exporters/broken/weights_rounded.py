"""Every convolution's weights went through float16 and back (issue 2; museum 082, half that is not half)."""

from __future__ import annotations

import numpy as np
import onnx

from exporters.broken import edits

CAUGHT_BY = ("structure.weights", "parity.declared")
VARIANT = "grid"
SAYS = "rounded to float16"


def plant(model: onnx.ModelProto) -> onnx.ModelProto:
    for index in range(len(edits.nodes(model, "Conv"))):
        name = edits.weight(model, index)
        edits.set_value(model, name, edits.value_of(model, name).astype(np.float16).astype(np.float32))
    return model
