"""Planted: suppression inside the graph."""

from __future__ import annotations

import numpy as np
import onnx
from detparity.kit.tests.defects import edits
from detparity.kit.tests.defects.registry import control, defect
from onnx import helper


@control(variant="end2end-ort-dynamic-batch")
def control_nms_offset_computed(model: onnx.ModelProto) -> onnx.ModelProto:
    """The class offset is computed in the graph, so no constant tells its size; classes are kept apart all the same."""
    edits.splice(model, "nms/max_wh", lambda x, op: op("Abs", x))
    kept = {key: value for key, value in edits.metadata(model).items() if key != "detparity.nms"}
    del model.metadata_props[:]
    edits.set_metadata(model, **kept)
    return model


@control(variant="end2end-ort-dynamic-batch")
def control_nms_renamed(model: onnx.ModelProto) -> onnx.ModelProto:
    """Other names for nodes and inner tensors of a file with suppression inside."""
    kept = {value.name for value in (*model.graph.input, *model.graph.output)}
    names = {tensor.name: f"onnx::Conv_{k}" for k, tensor in enumerate(model.graph.initializer)}
    for index, node in enumerate(model.graph.node):
        node.name = f"{node.op_type}_{index}"
        names.update({name: str(500 + index) for name in node.output if name not in kept})
    edits.rename(model, names)
    return model


@defect("nms.operator", variant="end2end-ort", says="nothing is suppressed")
def nms_bypassed(model: onnx.ModelProto) -> onnx.ModelProto:
    """Suppression is left out: every candidate comes through."""
    node = edits.nodes(model, "NonMaxSuppression")[0]

    def build(x: str, op: edits.Op) -> str:
        count = op("Gather", op("Shape", x), np.asarray(1, np.int64), axis=0)
        rows = op("Unsqueeze", op("Range", np.asarray(0, np.int64), count, np.asarray(1, np.int64)), axes=[1])
        zeros = op("Mul", rows, np.asarray(0, np.int64))
        return op("Concat", zeros, zeros, rows, axis=1)

    edits.replace(model, node, build)
    edits.prune(model)
    return model


@defect("nms.thresholds", "nms.tail", variant="end2end-ort", says="cap per image 101")
def nms_cap_over(model: onnx.ModelProto) -> onnx.ModelProto:
    """One detection too many is let through."""
    node = edits.nodes(model, "NonMaxSuppression")[0]
    edits.set_value(model, node.input[2], np.array([101], np.int64))
    return model


@defect("nms.thresholds", "nms.tail", variant="end2end-ort", says="cap per image 99")
def nms_cap_under(model: onnx.ModelProto) -> onnx.ModelProto:
    """One detection too few is let through."""
    node = edits.nodes(model, "NonMaxSuppression")[0]
    edits.set_value(model, node.input[2], np.array([99], np.int64))
    return model


@defect("nms.tail", variant="end2end-ort", says="missing")
def nms_filtered_early(model: onnx.ModelProto) -> onnx.ModelProto:
    """The filter before the suppression asks for an objectness over 0.26, where scores over 0.25 are promised."""
    edits.set_value(model, "nms/threshold_logit", np.array(np.log(0.26 / 0.74), np.float32))
    return model


@defect("nms.detections", "nms.tail", variant="end2end-ort")
def nms_centre_size(model: onnx.ModelProto) -> onnx.ModelProto:
    """Boxes come out as centre and size."""
    concat = next(n for n in edits.nodes(model, "Concat") if n.output[0] == "output")

    def build(x: str, op: edits.Op) -> str:
        low, high = edits.cut(op, x, 0, 2, 1), edits.cut(op, x, 2, 4, 1)
        return op("Concat", op("Mul", op("Add", low, high), 0.5), op("Sub", high, low), axis=1)

    edits.splice(model, concat.input[1], build)
    return model


@defect(
    "nms.detections",
    "nms.sizes",
    "nms.batches",
    "nms.optimisation",
    "nms.tail",
    "parity.map",
    variant="end2end-ort-dynamic",
)
def nms_class_off_by_one(model: onnx.ModelProto) -> onnx.ModelProto:
    """Every class index is one too high."""
    concat = next(n for n in edits.nodes(model, "Concat") if n.output[0] == "output")
    edits.splice(model, concat.input[2], lambda x, op: op("Add", x, 1.0))
    return model


@defect("nms.detections", "nms.tail", variant="end2end-ort")
def nms_columns_swapped(model: onnx.ModelProto) -> onnx.ModelProto:
    """Class and score have changed places."""
    concat = next(n for n in edits.nodes(model, "Concat") if n.output[0] == "output")
    concat.input[2], concat.input[3] = concat.input[3], concat.input[2]
    return model


@defect("nms.operator", variant="end2end-ort", says="suppresses under control flow")
def nms_conditional(model: onnx.ModelProto) -> onnx.ModelProto:
    """Suppression hangs on a condition: an If chooses what comes out."""

    def branch(name: str) -> onnx.GraphProto:
        value = helper.make_tensor_value_info(name, onnx.TensorProto.FLOAT, None)
        return helper.make_graph([helper.make_node("Identity", ["nms/boxes"], [name])], name, [], [value])

    def build(x: str, op: edits.Op) -> str:
        found = op("Greater", op("ReduceSum", op("Shape", x)), np.asarray(4, np.int64))
        return op("If", found, then_branch=branch("some"), else_branch=branch("none"))

    concat = next(node for node in edits.nodes(model, "Concat") if node.output[0] == "output")
    edits.splice(model, concat.input[1], build)
    return model


@defect("nms.operator", variant="end2end-ort", says="center_point_box 1")
def nms_corners_for_centres(model: onnx.ModelProto) -> onnx.ModelProto:
    """Suppression reads corners as centre and size: center_point_box is set."""
    node = edits.nodes(model, "NonMaxSuppression")[0]
    edits.set_attribute(node, "center_point_box", 1)
    return model


@defect("nms.detections", "nms.batches", "nms.tail", variant="end2end-ort-dynamic-batch", says="belongs to image")
def nms_image_off_by_one(model: onnx.ModelProto) -> onnx.ModelProto:
    """Every image index is one too high."""
    concat = next(n for n in edits.nodes(model, "Concat") if n.output[0] == "output")
    edits.splice(model, concat.input[0], lambda x, op: op("Add", x, 1.0))
    return model


@defect("nms.batches", "nms.tail", variant="end2end-ort-dynamic-batch", unseen_by=("nms.detections",))
def nms_image_zero(model: onnx.ModelProto) -> onnx.ModelProto:
    """Every detection is said to be of image 0."""
    concat = next(n for n in edits.nodes(model, "Concat") if n.output[0] == "output")
    edits.splice(model, concat.input[0], lambda x, op: op("Mul", x, 0.0))
    return model


@defect("nms.batches", "nms.tail", variant="end2end-ort-dynamic-batch", unseen_by=("nms.detections",))
def nms_images_mixed(model: onnx.ModelProto) -> onnx.ModelProto:
    """All candidates of a batch are offered to every image."""
    edits.splice(model, "nms/scores_by_image", lambda x, op: op("Add", op("Mul", x, 0.0), "nms/score_row"))
    return model


@defect("nms.thresholds", "nms.tail", variant="end2end-ort-dynamic-batch", says="iou threshold 0.46")
def nms_iou_off(model: onnx.ModelProto) -> onnx.ModelProto:
    """The IoU threshold is off by 0.01."""
    node = edits.nodes(model, "NonMaxSuppression")[0]
    edits.set_value(model, node.input[3], np.array([0.46], np.float32))
    return model


@defect("nms.detections", "nms.tail", variant="end2end-ort")
def nms_last_row_dropped(model: onnx.ModelProto) -> onnx.ModelProto:
    """The last detection is cut off."""
    edits.splice(model, "output", lambda x, op: edits.cut(op, x, 0, -1, 0))
    return model


@defect("nms.operator", variant="end2end-ort", says="has 2 NonMaxSuppression nodes where one is promised")
def nms_looped(model: onnx.ModelProto) -> onnx.ModelProto:
    """Suppression is unrolled image by image: two operators where one is promised."""
    inputs = list(edits.nodes(model, "NonMaxSuppression")[0].input)

    def build(x: str, op: edits.Op) -> str:
        again = op("NonMaxSuppression", *inputs)
        return op("Concat", x, edits.cut(op, again, 0, 0, 0), axis=0)

    edits.splice(model, "nms/selected", build)
    return model


@defect("nms.operator", variant="end2end-ort", says="max_output_boxes_per_class")
def nms_no_cap(model: onnx.ModelProto) -> onnx.ModelProto:
    """The cap is left out, which means that nothing comes out."""
    node = edits.nodes(model, "NonMaxSuppression")[0]
    node.input[2] = ""
    edits.prune(model)
    return model


@defect("nms.repeat", "structure.operators", variant="end2end-ort")
def nms_noise(model: onnx.ModelProto) -> onnx.ModelProto:
    """Random numbers of 1e-3 are added to the scores."""
    edits.splice(model, "nms/score", lambda x, op: op("Add", x, op("Mul", op("RandomNormalLike", x), 1e-3)))
    return model


@defect("nms.detections", "nms.tail", variant="end2end-ort-dynamic-batch", says="no candidate")
def nms_objectness_left_out(model: onnx.ModelProto) -> onnx.ModelProto:
    """The score is the class score alone: objectness is left out."""
    edits.replace(
        model,
        next(n for n in edits.nodes(model, "Mul") if n.output[0] == "nms/score"),
        lambda x, op: op("Identity", "nms/best_score"),
    )
    return model


@defect("nms.thresholds", "nms.class-offset", variant="end2end-ort", says="float32")
def nms_offset_huge(model: onnx.ModelProto) -> onnx.ModelProto:
    """The class offset is so large that float32 rounds boxes to whole pixels and more."""
    edits.set_value(model, "nms/max_wh", np.asarray(5.0e7, np.float32))
    return model


@defect("nms.thresholds", "nms.class-offset", variant="end2end-ort", says="the smallest safe offset is")
def nms_offset_tiny(model: onnx.ModelProto) -> onnx.ModelProto:
    """The class offset is one pixel."""
    edits.set_value(model, "nms/max_wh", np.asarray(1.0, np.float32))
    return model


@defect("nms.thresholds", "nms.tail", variant="end2end-ort", says="class offset 0")
def nms_offset_zero(model: onnx.ModelProto) -> onnx.ModelProto:
    """Classes are not moved apart at all."""
    edits.set_value(model, "nms/max_wh", np.asarray(0.0, np.float32))
    return model


@defect("nms.detections", "nms.tail", variant="end2end-ort")
def nms_order_reversed(model: onnx.ModelProto) -> onnx.ModelProto:
    """Detections come worst first."""

    def build(x: str, op: edits.Op) -> str:
        ends = [np.array([value], np.int64) for value in (-1, np.iinfo(np.int64).min, 0, -1)]
        return op("Slice", x, *ends)

    edits.splice(model, "output", build)
    return model


@defect("nms.baked", variant="end2end-ort-dynamic", says="rows of a 256x320 image")
def nms_rows_baked(model: onnx.ModelProto) -> onnx.ModelProto:
    """Only as many candidates as the example image has rows are ever looked at."""
    rows = 3 * (8 * 10 + 16 * 20 + 32 * 40)
    edits.splice(model, "nms/boxes", lambda x, op: edits.cut(op, x, 0, rows, 0))
    return model


@defect("nms.thresholds", "nms.tail", variant="end2end-ort-dynamic-batch", says="score threshold 0.26")
def nms_score_off(model: onnx.ModelProto) -> onnx.ModelProto:
    """The score threshold is off by 0.01."""
    node = edits.nodes(model, "NonMaxSuppression")[0]
    edits.set_value(model, node.input[4], np.array([0.26], np.float32))
    return model


@defect("nms.operator", variant="end2end-ort", says="2 numbers where one is promised")
def nms_threshold_pair(model: onnx.ModelProto) -> onnx.ModelProto:
    """The IoU threshold is two numbers."""
    node = edits.nodes(model, "NonMaxSuppression")[0]
    edits.set_value(model, node.input[3], np.array([0.45, 0.45], np.float32))
    return model


@defect("nms.tail", variant="end2end-ort")
def nms_nothing_crashes(model: onnx.ModelProto) -> onnx.ModelProto:
    """What comes after suppression reads the first detection, which a picture without any has not."""

    def build(x: str, op: edits.Op) -> str:
        return op("Add", x, op("Mul", op("Gather", x, np.array(0), axis=0), 0.0))

    edits.splice(model, "output", build)
    return model


@defect("nms.tail", variant="end2end-ort", says="class")
def nms_class_by_sixteenths(model: onnx.ModelProto) -> onnx.ModelProto:
    """The best class is chosen by scores cut to sixteenths, as a kernel of low precision does: of two close ones, the first."""
    node = edits.nodes(model, "ArgMax")[0]
    how = {one.name: onnx.helper.get_attribute_value(one) for one in node.attribute}

    def build(x: str, op: edits.Op) -> str:
        return op("ArgMax", op("Floor", op("Mul", x, 16.0)), **how)

    edits.replace(model, node, build)
    return model
