"""Control: the file declares the shapes of its inner values as well, as inference finds them."""

from __future__ import annotations

import onnx
from onnx import shape_inference

CAUGHT_BY = ()
VARIANT = "grid-dynamic"


def plant(model: onnx.ModelProto) -> onnx.ModelProto:
    return shape_inference.infer_shapes(model, data_prop=True)
