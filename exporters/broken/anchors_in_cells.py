"""The anchors are in cells where the decode wants pixels (museum 091, an older release's buffer)."""

from __future__ import annotations

import numpy as np
import onnx

from exporters.broken import edits

CAUGHT_BY = ("parity.declared",)
VARIANT = "grid"
SAYS = "stride 8 anchor 1 is 15x15 in the model, 1.875x1.875 in the file"


def plant(model: onnx.ModelProto) -> onnx.ModelProto:
    for name, stride in zip(edits.anchors(model), (8, 16, 32)):
        edits.set_value(model, name, edits.value_of(model, name) / np.float32(stride))
    return model
