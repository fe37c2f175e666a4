"""Names, stride and image size are not in the file (museum 036)."""

from __future__ import annotations

import onnx

CAUGHT_BY = ("structure.metadata",)
LEVEL = "SHOULD"
VARIANT = "grid"
SAYS = "carries no metadata names, stride, imgsz"


def plant(model: onnx.ModelProto) -> onnx.ModelProto:
    del model.metadata_props[:]
    return model
