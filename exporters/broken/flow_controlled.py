"""A branch with one possible outcome is in the graph, as squeeze on an unknown axis leaves it (museum 075)."""

from __future__ import annotations

import numpy as np
import onnx
from onnx import helper

from exporters.broken import edits

CAUGHT_BY = ("structure.operators",)
LEVEL = "SHOULD"
VARIANT = "grid"
SAYS = "control flow (If)"


def plant(model: onnx.ModelProto) -> onnx.ModelProto:
    def branch(x: str, name: str) -> onnx.GraphProto:
        value = helper.make_tensor_value_info(name, onnx.TensorProto.FLOAT, None)
        return helper.make_graph([helper.make_node("Identity", [x], [name])], name, [], [value])

    edits.splice(
        model,
        "output",
        lambda x, op: op("If", np.array(True), then_branch=branch(x, "kept"), else_branch=branch(x, "same")),
    )
    return model
