"""The last class is cut off; the names still list it (museum 035)."""

from __future__ import annotations

import onnx

from exporters.broken import edits

CAUGHT_BY = ("structure.axes", "structure.shapes", "parity.declared")
VARIANT = "grid"
SAYS = "9 where 10 is promised"


def plant(model: onnx.ModelProto) -> onnx.ModelProto:
    fields = edits.fields(model) - 1
    edits.splice(model, "output", lambda x, op: edits.cut(op, x, 0, fields, -1))
    edits.set_axis(model.graph.output[0], 2, fields)
    return model
