"""Two convolutions of one shape hold each other's weights (museum 030, another model after re-parameterising)."""

from __future__ import annotations

import onnx

from exporters.broken import edits

CAUGHT_BY = ("structure.weights", "parity.declared")
VARIANT = "grid-dynamic"
SAYS = "it is the tensor of"


def plant(model: onnx.ModelProto) -> onnx.ModelProto:
    first, second = edits.weight(model, 4), edits.weight(model, 5)
    values = edits.value_of(model, first)
    edits.set_value(model, first, edits.value_of(model, second))
    edits.set_value(model, second, values)
    return model
