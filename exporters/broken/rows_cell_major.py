"""Rows run cell by cell with the anchors inside, where the promise runs anchor by anchor (museum 029)."""

from __future__ import annotations

import onnx

from exporters.broken import edits

CAUGHT_BY = ("parity.declared",)
VARIANT = "grid"


def plant(model: onnx.ModelProto) -> onnx.ModelProto:
    for name in edits.nodes(model, "Concat")[-1].input:
        node = edits.producer(model, name)
        assert node is not None
        edits.splice(model, node.input[0], lambda x, op: op("Transpose", x, perm=[0, 2, 3, 1, 4]))
    return model
