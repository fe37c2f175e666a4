"""A convolution is padded at its end alone, as another framework's "same" does (issue 2)."""

from __future__ import annotations

import onnx

from exporters.broken import edits

CAUGHT_BY = ("structure.attributes", "parity.declared")
VARIANT = "grid-dynamic"
SAYS = "pads"


def plant(model: onnx.ModelProto) -> onnx.ModelProto:
    edits.set_attribute(edits.nodes(model, "Conv")[1], "pads", [0, 0, 2, 2])
    return model
