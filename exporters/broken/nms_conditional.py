"""Suppression hangs on a condition: an If chooses what comes out (issue 3; museum 075)."""

from __future__ import annotations

import numpy as np
import onnx
from onnx import helper

from exporters.broken import edits

CAUGHT_BY = ("nms.operator",)
VARIANT = "end2end-ort"
SAYS = "suppresses under control flow"


def plant(model: onnx.ModelProto) -> onnx.ModelProto:
    def branch(name: str) -> onnx.GraphProto:
        value = helper.make_tensor_value_info(name, onnx.TensorProto.FLOAT, None)
        return helper.make_graph([helper.make_node("Identity", ["nms/boxes"], [name])], name, [], [value])

    def build(x: str, op: edits.Op) -> str:
        found = op("Greater", op("ReduceSum", op("Shape", x)), np.asarray(4, np.int64))
        return op("If", found, then_branch=branch("some"), else_branch=branch("none"))

    concat = next(node for node in edits.nodes(model, "Concat") if node.output[0] == "output")
    edits.splice(model, concat.input[1], build)
    return model
