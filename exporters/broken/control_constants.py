"""Control: initializers are Constant nodes and Constant nodes are initializers."""

from __future__ import annotations

import onnx
from onnx import helper

from exporters.broken import edits

CAUGHT_BY = ()
VARIANT = "raw-dynamic"


def plant(model: onnx.ModelProto) -> onnx.ModelProto:
    tensors = list(model.graph.initializer)
    del model.graph.initializer[:]
    for node in edits.nodes(model, "Constant"):
        model.graph.initializer.add().CopyFrom(edits.attribute(node, "value").t)
        model.graph.initializer[-1].name = node.output[0]
        model.graph.node.remove(node)
    for tensor in reversed(tensors):
        model.graph.node.insert(0, helper.make_node("Constant", [], [tensor.name], value=tensor))
    return model
