"""The IR version is newer than the opset needs, and older runtimes refuse it (museum 068)."""

from __future__ import annotations

import onnx

CAUGHT_BY = ("structure.ir-version",)
LEVEL = "SHOULD"
VARIANT = "grid"


def plant(model: onnx.ModelProto) -> onnx.ModelProto:
    model.ir_version = 8
    return model
