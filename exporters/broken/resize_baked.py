"""One enlargement goes to the size it had at the export (museum 010 and 071, a shape that became a constant)."""

from __future__ import annotations

import json

import numpy as np
import onnx

from exporters.broken import edits

CAUGHT_BY = ("structure.baked-size", "parity.sizes")
UNSEEN_BY = ("parity.declared",)
VARIANT = "grid-dynamic"


def plant(model: onnx.ModelProto) -> onnx.ModelProto:
    node = edits.nodes(model, "Resize")[0]
    activation = edits.producer(model, node.input[0])
    assert activation is not None
    conv = edits.producer(model, activation.input[0])
    assert conv is not None
    height, width = json.loads(edits.metadata(model)["imgsz"])
    sizes = [1, len(edits.value_of(model, conv.input[2])), height // 16, width // 16]
    node.input[:] = [*node.input[:2], node.input[1], edits.add_constant(model, np.array(sizes, np.int64))]
    return edits.prune(model)
