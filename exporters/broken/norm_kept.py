"""A batch-norm stays behind its convolution: the numbers are right, the work is done twice (museum 037 and 030)."""

from __future__ import annotations

import numpy as np
import onnx

from exporters.broken import edits

CAUGHT_BY = ("structure.batch-norm",)
UNSEEN_BY = ("parity.declared", "structure.weights")
VARIANT = "grid-dynamic"


def plant(model: onnx.ModelProto) -> onnx.ModelProto:
    channels = len(edits.value_of(model, edits.bias(model, 3)))
    ones, zeros = np.ones(channels, np.float32), np.zeros(channels, np.float32)
    edits.splice(
        model,
        edits.nodes(model, "Conv")[3].output[0],
        lambda x, op: op("BatchNormalization", x, ones, zeros, zeros, ones, epsilon=1e-9),
    )
    return model
