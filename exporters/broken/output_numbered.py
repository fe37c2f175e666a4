"""A raw output after the first has the number the exporter gave it (museum 027)."""

from __future__ import annotations

import onnx

from exporters.broken import edits

CAUGHT_BY = ("structure.outputs",)
LEVEL = "SHOULD"
VARIANT = "raw"
SAYS = "540"


def plant(model: onnx.ModelProto) -> onnx.ModelProto:
    edits.rename(model, {"output_1": "540"})
    return model
