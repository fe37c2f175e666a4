"""The class names stand in another order (museum 034)."""

from __future__ import annotations

import json

import onnx

from exporters.broken import edits

CAUGHT_BY = ("structure.metadata",)
VARIANT = "grid"
SAYS = "names[0]"


def plant(model: onnx.ModelProto) -> onnx.ModelProto:
    names = json.loads(edits.metadata(model)["names"])
    edits.set_metadata(model, names=json.dumps([*names[1:], names[0]]))
    return model
