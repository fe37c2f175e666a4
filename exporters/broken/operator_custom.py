"""A node comes from a domain that no runtime has without a plugin (museum 048)."""

from __future__ import annotations

import onnx

from exporters.broken import edits

CAUGHT_BY = ("structure.operators", "structure.opset", "structure.load")
VARIANT = "grid"
SAYS = "uses vendor:Decode"


def plant(model: onnx.ModelProto) -> onnx.ModelProto:
    edits.splice(model, "output", lambda x, op: op("Decode", x, domain="vendor"))
    model.opset_import.add(domain="vendor", version=1)
    return model
