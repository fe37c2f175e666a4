"""A node stands before those it reads from; some runtimes sort for themselves (museum 106, checkers that look at names alone)."""

from __future__ import annotations

import onnx

from exporters.broken import edits

CAUGHT_BY = ("structure.checker",)
VARIANT = "raw"


def plant(model: onnx.ModelProto) -> onnx.ModelProto:
    node = edits.nodes(model, "LeakyRelu")[8]
    model.graph.node.remove(node)
    model.graph.node.insert(0, node)
    return model
