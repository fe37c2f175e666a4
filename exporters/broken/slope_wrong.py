"""One leaky activation has the slope 0.11 where the model has 0.1 (issue 2)."""

from __future__ import annotations

import onnx

from exporters.broken import edits

CAUGHT_BY = ("structure.attributes", "parity.declared")
VARIANT = "raw"
SAYS = "slope"


def plant(model: onnx.ModelProto) -> onnx.ModelProto:
    edits.set_attribute(edits.nodes(model, "LeakyRelu")[30], "alpha", 0.11)
    return model
