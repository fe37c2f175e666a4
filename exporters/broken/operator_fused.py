"""The file was saved after one runtime's own fusion: right there, unreadable elsewhere (museum 102)."""

from __future__ import annotations

import onnx

from exporters.broken import edits

CAUGHT_BY = ("structure.operators", "structure.opset")
UNSEEN_BY = ("parity.declared",)
VARIANT = "raw"
SAYS = "com.microsoft:FusedConv"


def plant(model: onnx.ModelProto) -> onnx.ModelProto:
    conv = edits.nodes(model, "Conv")[0]
    activation = edits.nodes(model, "LeakyRelu")[0]
    conv.op_type, conv.domain = "FusedConv", "com.microsoft"
    edits.set_attribute(conv, "activation", "LeakyRelu")
    edits.set_attribute(conv, "activation_params", [0.1])
    conv.output[0] = activation.output[0]
    model.graph.node.remove(activation)
    model.opset_import.add(domain="com.microsoft", version=1)
    return model
