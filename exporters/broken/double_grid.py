"""The grid is counted in float64, which no Cast and no stored constant shows: its ones come from ConstantOfShape (issue 2)."""

from __future__ import annotations

import numpy as np
import onnx
from onnx import numpy_helper

from exporters.broken import edits

CAUGHT_BY = ("structure.float64",)
UNSEEN_BY = ("parity.declared",)
VARIANT = "grid-dynamic"


def plant(model: onnx.ModelProto) -> onnx.ModelProto:
    one = numpy_helper.from_array(np.ones(1, np.float64))
    for ones in edits.counted(model):
        edits.replace(model, ones, lambda x, op: op("ConstantOfShape", op("Shape", x), value=one))
    for count in edits.nodes(model, "CumSum"):
        edits.splice(model, count.output[0], lambda x, op: op("Cast", x, to=onnx.TensorProto.FLOAT))
    return model
