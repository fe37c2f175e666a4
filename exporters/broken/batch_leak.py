"""A thousandth of the batch's mean is mixed into every image (issue 2; museum 008, a batch works only at 1)."""

from __future__ import annotations

import onnx

from exporters.broken import edits

CAUGHT_BY = ("parity.isolation", "parity.batches")
UNSEEN_BY = ("parity.declared",)
VARIANT = "grid-dynamic"
SAYS = "lets the other images of a batch change image 0"


def plant(model: onnx.ModelProto) -> onnx.ModelProto:
    def mixed(x: str, op: edits.Op) -> str:
        return op("Add", op("Mul", x, 0.999), op("Mul", op("ReduceMean", x, axes=[0], keepdims=1), 0.001))

    edits.splice(model, "output", mixed)
    return model
