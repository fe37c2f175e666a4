"""The heads are reshaped to the cells of the export's size in a file that promises every size (museum 001 and 071)."""

from __future__ import annotations

import json

import numpy as np
import onnx

from exporters.broken import edits

CAUGHT_BY = ("structure.baked-size", "parity.sizes")
UNSEEN_BY = ("parity.declared",)
VARIANT = "raw-dynamic"
SAYS = "[-1, 3, 10, 32, 40]"


def plant(model: onnx.ModelProto) -> onnx.ModelProto:
    height, width = json.loads(edits.metadata(model)["imgsz"])
    for node, stride in zip(edits.nodes(model, "Reshape"), (8, 16, 32)):
        target = [-1, 3, edits.fields(model), height // stride, width // stride]
        node.input[1] = edits.add_constant(model, np.array(target, np.int64))
    return edits.prune(model)
