"""A factor that overflows float32 is hidden by the runtime's fusion and shows without it (museum 102 and 086)."""

from __future__ import annotations

import numpy as np
import onnx

from exporters.broken import edits

CAUGHT_BY = ("parity.optimisation",)
UNSEEN_BY = ("parity.declared",)
VARIANT = "raw-dynamic"


def plant(model: onnx.ModelProto) -> onnx.ModelProto:
    channels = len(edits.value_of(model, edits.bias(model, 2)))
    large = np.full((channels, 1, 1), 2.0**126, np.float32)
    small = np.full((channels, 1, 1), 2.0**-126, np.float32)
    edits.splice(
        model,
        edits.nodes(model, "Conv")[2].output[0],
        lambda x, op: op("Mul", op("Mul", x, large), small),
    )
    return model
