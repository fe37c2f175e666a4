"""Control: pools that round up, which changes nothing at multiples of the stride, and padding called SAME (museum 073)."""

from __future__ import annotations

import onnx

from exporters.broken import edits

CAUGHT_BY = ()
VARIANT = "raw-dynamic"


def plant(model: onnx.ModelProto) -> onnx.ModelProto:
    for node in edits.nodes(model, "MaxPool"):
        edits.set_attribute(node, "ceil_mode", 1)
    for node in edits.nodes(model, "Conv"):
        if list(edits.attribute(node, "strides").ints) == [1, 1]:
            node.attribute.remove(edits.attribute(node, "pads"))
            edits.set_attribute(node, "auto_pad", "SAME_UPPER")
    return model
