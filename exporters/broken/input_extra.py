"""The file wants a second input nobody promised (museum 010, an image size to be fed at run time)."""

from __future__ import annotations

import onnx
from onnx import helper

CAUGHT_BY = ("structure.inputs",)
VARIANT = "grid"
SAYS = "image_size"


def plant(model: onnx.ModelProto) -> onnx.ModelProto:
    model.graph.input.append(helper.make_tensor_value_info("image_size", onnx.TensorProto.FLOAT, [1, 2]))
    return model
