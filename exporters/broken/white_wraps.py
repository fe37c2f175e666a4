"""Full white wraps to black, as 256 does in eight bits (issue 2)."""

from __future__ import annotations

import onnx

from exporters.broken import edits

CAUGHT_BY = ("parity.values",)
VARIANT = "grid-dynamic"


def plant(model: onnx.ModelProto) -> onnx.ModelProto:
    edits.splice(model, "images", lambda x, op: op("Mod", x, 1.0, fmod=1))
    return model
