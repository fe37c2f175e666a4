"""A fixed number is written as a symbol: "10" (issue 2; museum 014)."""

from __future__ import annotations

import onnx

from exporters.broken import edits

CAUGHT_BY = ("structure.axes",)
UNSEEN_BY = ("structure.shapes", "parity.declared")
VARIANT = "grid"
SAYS = "a numeral used as a symbol"


def plant(model: onnx.ModelProto) -> onnx.ModelProto:
    edits.set_axis(model.graph.output[0], 2, str(edits.fields(model)))
    return model
