"""The activations pass through float16 once, in the middle of the graph (museum 086)."""

from __future__ import annotations

import onnx

from exporters.broken import edits

CAUGHT_BY = ("parity.declared",)
VARIANT = "grid-dynamic"


def plant(model: onnx.ModelProto) -> onnx.ModelProto:
    def through_half(x: str, op: edits.Op) -> str:
        return op("Cast", op("Cast", x, to=onnx.TensorProto.FLOAT16), to=onnx.TensorProto.FLOAT)

    edits.splice(model, edits.nodes(model, "LeakyRelu")[20].output[0], through_half)
    return model
