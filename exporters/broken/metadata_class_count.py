"""The metadata lists one class fewer than the model has (museum 035)."""

from __future__ import annotations

import json

import onnx

from exporters.broken import edits

CAUGHT_BY = ("structure.metadata",)
VARIANT = "raw"
SAYS = "4 classes"


def plant(model: onnx.ModelProto) -> onnx.ModelProto:
    names = json.loads(edits.metadata(model)["names"])
    edits.set_metadata(model, names=json.dumps(names[:-1]))
    return model
