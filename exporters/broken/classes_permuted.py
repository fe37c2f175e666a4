"""The class rows of one head convolution are shifted by one: boxes right, labels wrong (museum 034)."""

from __future__ import annotations

import numpy as np
import onnx

from exporters.broken import edits

CAUGHT_BY = ("structure.weights", "parity.declared", "parity.map")
VARIANT = "grid"
SAYS = "class at stride 8"


def plant(model: onnx.ModelProto) -> onnx.ModelProto:
    fields = edits.fields(model)
    head = next(node for node in edits.nodes(model, "Conv") if len(edits.value_of(model, node.input[2])) == 3 * fields)
    for name in head.input[1:3]:
        values = edits.value_of(model, name)
        rows = values.reshape(3, fields, -1)
        rows[:, 5:] = np.roll(rows[:, 5:], 1, axis=1)
        edits.set_value(model, name, rows.reshape(values.shape))
    return model
