"""An initializer has the name of a node's output (museum 064)."""

from __future__ import annotations

import onnx

from exporters.broken import edits

CAUGHT_BY = ("structure.checker",)
VARIANT = "raw"


def plant(model: onnx.ModelProto) -> onnx.ModelProto:
    edits.rename(model, {edits.bias(model, 3): edits.nodes(model, "LeakyRelu")[0].output[0]})
    return model
