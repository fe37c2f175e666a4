"""The metadata has width before height (museum 012)."""

from __future__ import annotations

import json

import onnx

from exporters.broken import edits

CAUGHT_BY = ("structure.metadata",)
VARIANT = "grid"
SAYS = "imgsz"


def plant(model: onnx.ModelProto) -> onnx.ModelProto:
    height, width = json.loads(edits.metadata(model)["imgsz"])
    edits.set_metadata(model, imgsz=json.dumps([width, height]))
    return model
