"""Control: axes counted from the end, where the operator set allows it."""

from __future__ import annotations

import onnx

from exporters.broken import edits

CAUGHT_BY = ()
VARIANT = "grid-dynamic"


def plant(model: onnx.ModelProto) -> onnx.ModelProto:
    for node in edits.nodes(model, "Concat"):
        axis, rank = edits.attribute(node, "axis").i, {0: 1, 1: 4, 4: 5}
        if node.output[0] != "output":
            edits.set_attribute(node, "axis", axis - rank[axis])
    return model
