"""Nodes are left that reach no output (museum 027, a feature map that leaked and was cut off)."""

from __future__ import annotations

import onnx
from onnx import helper

from exporters.broken import edits

CAUGHT_BY = ("structure.dead-nodes",)
UNSEEN_BY = ("parity.declared",)
VARIANT = "raw"


def plant(model: onnx.ModelProto) -> onnx.ModelProto:
    inner = edits.nodes(model, "LeakyRelu")[5].output[0]
    model.graph.node.append(helper.make_node("Relu", [inner], ["leaked"]))
    model.graph.node.append(helper.make_node("Neg", ["leaked"], ["leaked_further"]))
    return model
