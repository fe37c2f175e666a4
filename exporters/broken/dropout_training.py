"""A Dropout was exported in training mode (museum 037)."""

from __future__ import annotations

import numpy as np
import onnx

from exporters.broken import edits

CAUGHT_BY = ("structure.operators",)
VARIANT = "grid-dynamic"
SAYS = "Dropout in training mode"


def plant(model: onnx.ModelProto) -> onnx.ModelProto:
    edits.splice(
        model,
        edits.nodes(model, "LeakyRelu")[9].output[0],
        lambda x, op: op("Dropout", x, 0.1, np.array(True)),
    )
    return model
