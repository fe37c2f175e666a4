"""A batch-norm was exported in training mode, with the outputs that only training has (museum 037)."""

from __future__ import annotations

import numpy as np
import onnx

from exporters.broken import edits

CAUGHT_BY = ("structure.operators", "structure.batch-norm")
VARIANT = "grid-dynamic"
SAYS = "training mode"


def plant(model: onnx.ModelProto) -> onnx.ModelProto:
    channels = len(edits.value_of(model, edits.bias(model, 3)))
    ones, zeros = np.ones(channels, np.float32), np.zeros(channels, np.float32)
    edits.splice(
        model,
        edits.nodes(model, "Conv")[3].output[0],
        lambda x, op: op("BatchNormalization", x, ones, zeros, zeros, ones),
    )
    extra = [f"statistics_{index}" for index in range(4)]
    edits.nodes(model, "BatchNormalization")[0].output.extend(extra)
    return model
