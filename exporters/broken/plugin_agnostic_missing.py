"""class_agnostic is left out (museum 047)."""

from __future__ import annotations

import onnx

from exporters.broken import edits

CAUGHT_BY = ("nms.attributes",)
LEVEL = "SHOULD"
VARIANT = "end2end-trt"
SAYS = "TensorRT 8.6"


def plant(model: onnx.ModelProto) -> onnx.ModelProto:
    node = edits.nodes(model, "EfficientNMS_TRT")[0]

    kept = [item for item in node.attribute if item.name != "class_agnostic"]
    del node.attribute[:]
    node.attribute.extend(kept)
    return model
