"""Another plugin version is asked for (issue 3, any plugin attribute changed)."""

from __future__ import annotations

import onnx

from exporters.broken import edits

CAUGHT_BY = ("nms.attributes",)
VARIANT = "end2end-trt-dynamic-batch"
SAYS = "plugin_version"


def plant(model: onnx.ModelProto) -> onnx.ModelProto:
    node = edits.nodes(model, "EfficientNMS_TRT")[0]
    edits.set_attribute(node, "plugin_version", "2")
    return model
