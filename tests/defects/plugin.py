"""Planted: the TensorRT plugin EfficientNMS_TRT and what it is fed."""

from __future__ import annotations

import numpy as np
import onnx
from detparity.kit.tests.defects import edits
from detparity.kit.tests.defects.registry import control, defect


@control(variant="end2end-trt-dynamic-batch")
def control_plugin_padding(model: onnx.ModelProto) -> onnx.ModelProto:
    """What lies past num_dets means nothing: it is filled with -1."""

    def build(x: str, op: edits.Op) -> str:
        places = op("Unsqueeze", np.arange(100, dtype=np.int32), axes=[0])
        return op("Where", op("Less", places, "num_dets"), x, -1.0)

    edits.splice(model, "det_scores", build)
    return model


@defect("nms.attributes", variant="end2end-trt-dynamic-batch", says="score_activation")
def plugin_activation(model: onnx.ModelProto) -> onnx.ModelProto:
    """Scores get a second sigmoid."""
    node = edits.nodes(model, "EfficientNMS_TRT")[0]
    edits.set_attribute(node, "score_activation", 1)
    return model


@defect("nms.attributes", "nms.tail", variant="end2end-trt-dynamic-batch", says="class_agnostic")
def plugin_agnostic(model: onnx.ModelProto) -> onnx.ModelProto:
    """Classes suppress each other."""
    node = edits.nodes(model, "EfficientNMS_TRT")[0]
    edits.set_attribute(node, "class_agnostic", 1)
    return model


@defect("nms.attributes", variant="end2end-trt", level="SHOULD", says="TensorRT 8.6")
def plugin_agnostic_missing(model: onnx.ModelProto) -> onnx.ModelProto:
    """Class_agnostic is left out."""
    node = edits.nodes(model, "EfficientNMS_TRT")[0]

    kept = [item for item in node.attribute if item.name != "class_agnostic"]
    del node.attribute[:]
    node.attribute.extend(kept)
    return model


@defect("nms.attributes", "nms.tail", variant="end2end-trt-dynamic-batch", says="background_class")
def plugin_background(model: onnx.ModelProto) -> onnx.ModelProto:
    """Class 0 is taken for background and left out."""
    node = edits.nodes(model, "EfficientNMS_TRT")[0]
    edits.set_attribute(node, "background_class", 0)
    return model


@defect("nms.attributes", "nms.tail", variant="end2end-trt-dynamic-batch", says="box_coding")
def plugin_box_coding(model: onnx.ModelProto) -> onnx.ModelProto:
    """Centres and sizes are read as corners."""
    node = edits.nodes(model, "EfficientNMS_TRT")[0]
    edits.set_attribute(node, "box_coding", 0)
    return model


@defect("nms.thresholds", variant="end2end-trt", says="cap per image 101")
def plugin_cap(model: onnx.ModelProto) -> onnx.ModelProto:
    """The plugin gives one detection more than declared."""
    node = edits.nodes(model, "EfficientNMS_TRT")[0]
    edits.set_attribute(node, "max_output_boxes", 101)
    return model


@defect("nms.thresholds", "nms.tail", variant="end2end-trt", says="iou threshold 0.46")
def plugin_iou(model: onnx.ModelProto) -> onnx.ModelProto:
    """The plugin suppresses from another IoU."""
    node = edits.nodes(model, "EfficientNMS_TRT")[0]
    edits.set_attribute(node, "iou_threshold", 0.46)
    return model


@defect("nms.detections", "nms.tail", variant="end2end-trt-dynamic-batch")
def plugin_objectness(model: onnx.ModelProto) -> onnx.ModelProto:
    """Objectness is left out of the plugin's scores."""
    makers = {name: node.op_type for node in model.graph.node for name in node.output}
    products = [
        node for node in edits.nodes(model, "Mul") if [makers.get(name) for name in node.input] == ["Slice"] * 2
    ]
    assert len(products) == 3
    for node in products:
        classes = node.input[1]
        edits.replace(model, node, lambda x, op, classes=classes: op("Identity", classes))
    return edits.prune(model)


@defect("nms.detections", "nms.tail", variant="end2end-trt-dynamic-batch")
def plugin_padding_used(model: onnx.ModelProto) -> onnx.ModelProto:
    """The count of detections is always the cap, so rows that mean nothing are read."""
    edits.splice(
        model, "num_dets", lambda x, op: op("Add", op("Mul", x, np.asarray(0, np.int32)), np.asarray(100, np.int32))
    )
    return model


@defect("nms.thresholds", "nms.tail", variant="end2end-trt", says="score threshold 0.24")
def plugin_score(model: onnx.ModelProto) -> onnx.ModelProto:
    """The plugin asks for another score."""
    node = edits.nodes(model, "EfficientNMS_TRT")[0]
    edits.set_attribute(node, "score_threshold", 0.24)
    return model


@defect("nms.detections", "nms.tail", variant="end2end-trt-dynamic-batch")
def plugin_scores_halved(model: onnx.ModelProto) -> onnx.ModelProto:
    """The scores are scaled behind the plugin."""
    edits.splice(model, "det_scores", lambda x, op: op("Mul", x, 0.5))
    return model


@defect("nms.attributes", variant="end2end-trt", says="INTS [-1]")
def plugin_types(model: onnx.ModelProto) -> onnx.ModelProto:
    """Attributes are lists of one number where numbers are promised."""
    node = edits.nodes(model, "EfficientNMS_TRT")[0]
    edits.set_attribute(node, "background_class", [-1])
    edits.set_attribute(node, "box_coding", [1])
    return model


@defect("nms.attributes", variant="end2end-trt-dynamic-batch", says="plugin_version")
def plugin_version(model: onnx.ModelProto) -> onnx.ModelProto:
    """Another plugin version is asked for."""
    node = edits.nodes(model, "EfficientNMS_TRT")[0]
    edits.set_attribute(node, "plugin_version", "2")
    return model


@defect("structure.checker", variant="end2end-trt")
def plugin_domain(model: onnx.ModelProto) -> onnx.ModelProto:
    """The plugin is in the domain of ONNX itself, where no operator has its name."""
    edits.nodes(model, "EfficientNMS_TRT")[0].domain = ""
    return model
