"""The three anchors of one level stand in another order (museum 029)."""

from __future__ import annotations

import onnx

from exporters.broken import edits

CAUGHT_BY = ("parity.declared", "parity.map")
VARIANT = "grid"
SAYS = "Anchors differ: stride 16"


def plant(model: onnx.ModelProto) -> onnx.ModelProto:
    name = edits.anchors(model)[1]
    edits.set_value(model, name, edits.value_of(model, name)[:, [1, 2, 0]])
    return model
