"""A same-size max-pool is padded unevenly: right shape, every value one cell off (museum 073, pooling modes)."""

from __future__ import annotations

import onnx

from exporters.broken import edits

CAUGHT_BY = ("parity.declared",)
VARIANT = "grid-dynamic"


def plant(model: onnx.ModelProto) -> onnx.ModelProto:
    pools = edits.nodes(model, "MaxPool")
    same = next(pool for pool in pools if list(edits.attribute(pool, "kernel_shape").ints) == [5, 5])
    edits.set_attribute(same, "pads", [1, 1, 3, 3])
    return model
