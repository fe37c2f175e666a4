"""The second and the third level are listed in the opposite order (museum 027)."""

from __future__ import annotations

import onnx

CAUGHT_BY = ("structure.outputs", "structure.shapes", "parity.declared")
VARIANT = "raw"


def plant(model: onnx.ModelProto) -> onnx.ModelProto:
    _, second, third = list(model.graph.output)
    del model.graph.output[1:]
    model.graph.output.extend([third, second])
    return model
