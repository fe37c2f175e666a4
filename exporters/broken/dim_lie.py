"""The output declares one row more than it has; the runtime only warns (museum 013)."""

from __future__ import annotations

import onnx

from exporters.broken import edits

CAUGHT_BY = ("structure.axes", "structure.shapes")
UNSEEN_BY = ("parity.declared",)
VARIANT = "grid"
SAYS = "5041 where 5040 is promised"


def plant(model: onnx.ModelProto) -> onnx.ModelProto:
    edits.set_axis(model.graph.output[0], 1, model.graph.output[0].type.tensor_type.shape.dim[1].dim_value + 1)
    return model
