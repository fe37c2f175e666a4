"""Suppression in the graph: torch-free tails appended to an exported graph with `onnx.helper`.

One function for every torch version, exact attribute types, real numbers in shapes, and (0, 7) where nothing is found.
"""

from __future__ import annotations

import math
from typing import Any, List, Optional, Sequence

import numpy as np
import onnx
from onnx import helper, numpy_helper

from detparity.core.contract import NmsPromise
from detparity.core.vocabulary import ModelFacts

from .options import opset_of

LOWEST = -3.0e38
AXES_AS_INPUT = {"Unsqueeze": 13, "ReduceSum": 13, "ReduceMax": 18}  # first opset, by the ONNX operator changelog


class _Tail:
    """A graph being extended: `add` appends one node and returns its output's name, `const` an initializer."""

    def __init__(self, model: onnx.ModelProto, prefix: str) -> None:
        self.graph = model.graph
        self.opset = opset_of(model)
        self.prefix = prefix

    def const(self, name: str, value: Any, dtype: Any = np.float32) -> str:
        full = f"{self.prefix}/{name}"
        if not any(tensor.name == full for tensor in self.graph.initializer):
            self.graph.initializer.append(numpy_helper.from_array(np.asarray(value, dtype), full))
        return full

    def add(self, op: str, name: str, *inputs: str, output: Optional[str] = None, **attributes: Any) -> str:
        made = output or f"{self.prefix}/{name}"
        node = helper.make_node(op, list(inputs), [made], name=f"{self.prefix}/{name}_{op}", **attributes)
        self.graph.node.append(node)
        return made

    def columns(self, name: str, x: str, start: int, end: int, axis: int = 1) -> str:
        """x[..., start:end] along `axis`; an end past the last column takes all that is left."""
        ints = [self.const(f"int{value}", [value], np.int64) for value in (start, end, axis)]
        return self.add("Slice", name, x, *ints)

    def column(self, name: str, x: str, index: int, axis: int = 1) -> str:
        """x[..., index] along `axis`, without that axis."""
        return self.add("Gather", name, x, self.const(f"index{index}", index, np.int64), axis=axis)

    def along(self, op: str, name: str, x: str, axis: int, **more: Any) -> str:
        """An operator that names its axes: by an attribute before the opset of `AXES_AS_INPUT`, by an input from it on."""
        if self.opset < AXES_AS_INPUT[op]:
            return self.add(op, name, x, axes=[axis], **more)
        return self.add(op, name, x, self.const(f"int{axis}", [axis], np.int64), **more)


def objectness_logit(score_threshold: float) -> float:
    """A logit that every row over the score threshold exceeds: a score is never above its objectness.

    The margins cover float32 sigmoids, so nothing is lost; what comes through in excess the suppression's own threshold drops.
    """
    below = score_threshold - 2.0**-21
    return LOWEST if below <= 0 else min(math.log(below / (1.0 - below)) if below < 1 else 80.0, 80.0) - 1e-3


def _level(t: _Tail, name: str, logits: str, stride: int, anchors: Any, threshold: float) -> List[str]:
    """Filter one level on its objectness logit, then decode what is left: boxes (K, 4), image (K,), scores (K, 1), (K, nc)."""
    objectness = t.column(f"{name}/objectness_logit", logits, 4, axis=4)
    over = t.add("Greater", f"{name}/over", objectness, t.const("threshold_logit", threshold))
    positions = t.add("Transpose", f"{name}/places", t.add("NonZero", f"{name}/nonzero", over), perm=[1, 0])
    s = t.add("Sigmoid", f"{name}/sigmoid", t.add("GatherND", f"{name}/rows", logits, positions))
    two, half = t.const("two", 2.0), t.const("half", 0.5)
    cells = t.add("Gather", f"{name}/cells", positions, t.const("xy_of_place", [3, 2], np.int64), axis=1)
    cells = t.add("Cast", f"{name}/grid", cells, to=onnx.TensorProto.FLOAT)
    xy = t.add(
        "Sub", f"{name}/xy_centred", t.add("Mul", f"{name}/xy_twice", t.columns(f"{name}/xy_s", s, 0, 2), two), half
    )
    xy = t.add(
        "Mul", f"{name}/xy", t.add("Add", f"{name}/xy_cells", xy, cells), t.const(f"stride{stride}", float(stride))
    )
    anchor = t.add(
        "Gather", f"{name}/anchor", t.const(f"{name}/anchors", anchors), t.column(f"{name}/which", positions, 1), axis=0
    )
    twice = t.add("Mul", f"{name}/wh_twice", t.columns(f"{name}/wh_s", s, 2, 4), two)
    wh = t.add("Mul", f"{name}/wh", t.add("Mul", f"{name}/wh_square", twice, twice), anchor)
    reach = t.add("Mul", f"{name}/reach", wh, half)
    low, high = t.add("Sub", f"{name}/low", xy, reach), t.add("Add", f"{name}/high", xy, reach)
    boxes = t.add("Concat", f"{name}/boxes", low, high, axis=1)
    image = t.column(f"{name}/image", positions, 0)
    return [boxes, image, t.columns(f"{name}/objectness", s, 4, 5), t.columns(f"{name}/classes", s, 5, 2**31 - 1)]


def into_inner(model: onnx.ModelProto, names: Sequence[str]) -> List[str]:
    """Make graph outputs inner tensors under names of their own, so that the tail may use the promised ones."""
    made = {name: f"head/{name}" for name in names}
    for node in model.graph.node:
        for tensors in (node.input, node.output):
            for index, name in enumerate(tensors):
                if name in made:
                    tensors[index] = made[name]
    del model.graph.output[:]
    return [made[name] for name in names]


def append_ort(
    model: onnx.ModelProto, levels: Sequence[str], facts: ModelFacts, nms: NmsPromise, batch: Optional[int]
) -> None:
    """Add to the inner tensors `levels`, the logits, one output `output` (n, 7): image, x1, y1, x2, y2, class, score.

    Rows are filtered on their objectness logit before anything is decoded. The class axis of NonMaxSuppression is the image, so
    the cap is per image and images may hold different counts. batch: None where it varies.
    """
    graph = model.graph
    t = _Tail(model, "nms")
    parts = [
        _level(t, f"level{k}", name, stride, anchors, objectness_logit(nms.score_threshold))
        for k, (name, stride, anchors) in enumerate(zip(levels, facts.strides, facts.anchors))
    ]
    joined = [
        t.add("Concat", name, *(p[k] for p in parts), axis=0)
        for k, name in enumerate(("boxes", "image", "objectness", "classes"))
    ]
    boxes, image, score, classes = joined
    best = t.add("Cast", "class", t.add("ArgMax", "best_class", classes, axis=1, keepdims=1), to=onnx.TensorProto.FLOAT)
    if facts.classes > 1:
        score = t.add("Mul", "score", score, t.along("ReduceMax", "best_score", classes, 1, keepdims=1))
    shifted = boxes
    if nms.max_wh:
        offset = t.add("Mul", "class_offset", best, t.const("max_wh", float(nms.max_wh)))
        shifted = t.add("Add", "shifted", boxes, offset)
    row = t.add("Transpose", "score_row", score, perm=[1, 0])
    if batch != 1:
        row = t.add("Where", "scores_by_image", _own_image(t, graph, image, batch), row, t.const("no_score", -1.0))
    selected = t.add(
        "NonMaxSuppression",
        "selected",
        t.along("Unsqueeze", "nms_boxes", shifted, 0),
        t.along("Unsqueeze", "nms_scores", row, 0),
        t.const("topk_all", [nms.cap], np.int64),
        t.const("iou_thres", [nms.iou_threshold]),
        t.const("conf_thres", [nms.score_threshold]),
    )
    rows = t.column("kept", selected, 2)
    column = t.along("Unsqueeze", "image_column", image, 1)
    number = t.add("Cast", "image_number", column, to=onnx.TensorProto.FLOAT)
    fields = [t.add("Gather", f"kept_{k}", x, rows, axis=0) for k, x in enumerate((number, boxes, best, score))]
    t.add("Concat", "output", *fields, output="output", axis=1)
    graph.output.append(helper.make_tensor_value_info("output", onnx.TensorProto.FLOAT, ["detections", 7]))


def _own_image(t: _Tail, graph: onnx.GraphProto, image: str, batch: Optional[int]) -> str:
    """(B, K): whether candidate k belongs to image b."""
    if batch is None:
        count = t.add(
            "Gather",
            "batch",
            t.add("Shape", "images_shape", graph.input[0].name),
            t.const("index0", 0, np.int64),
            axis=0,
        )
        numbers = t.add("Range", "numbers", t.const("index0", 0, np.int64), count, t.const("index1", 1, np.int64))
    else:
        numbers = t.const("numbers", np.arange(batch), np.int64)
    column, row = t.along("Unsqueeze", "numbers_column", numbers, 1), t.along("Unsqueeze", "image_row", image, 0)
    return t.add("Equal", "own_image", column, row)


def append_trt(model: onnx.ModelProto, boxes: str, scores: str, nms: NmsPromise, batch: Any) -> None:
    """Add to the inner tensors `boxes` (B, rows, 4), centre and size, and `scores` (B, rows, classes) one EfficientNMS_TRT node and
    its four outputs."""
    graph = model.graph
    names = ["num_dets", "det_boxes", "det_scores", "det_classes"]
    graph.node.append(
        helper.make_node(
            "EfficientNMS_TRT",
            [boxes, scores],
            names,
            name="nms/EfficientNMS_TRT",
            domain="TRT",
            background_class=-1,
            box_coding=1,
            class_agnostic=0,
            iou_threshold=float(nms.iou_threshold),
            max_output_boxes=int(nms.cap),
            plugin_version="1",
            score_activation=0,
            score_threshold=float(nms.score_threshold),
        )
    )
    model.opset_import.append(helper.make_opsetid("TRT", 1))
    _four_outputs(graph, nms, batch)


def _four_outputs(graph: onnx.GraphProto, nms: NmsPromise, batch: Any) -> None:
    names = ["num_dets", "det_boxes", "det_scores", "det_classes"]
    float32, int32 = onnx.TensorProto.FLOAT, onnx.TensorProto.INT32
    for name, kind, shape in zip(names, (int32, float32, float32, int32), ([1], [nms.cap, 4], [nms.cap], [nms.cap])):
        graph.output.append(helper.make_tensor_value_info(name, kind, [batch, *shape]))


def append_trt_nms(model: onnx.ModelProto, boxes: str, by_class: str, nms: NmsPromise, batch: Optional[int]) -> None:
    """Add to the inner tensors `boxes` (B, rows, 4), corners, and `by_class` (B, classes, rows), scores, the plugin's four outputs,
    made by NonMaxSuppression, which TensorRT runs itself.

    Every (row, class) pair over the score threshold is a candidate; the best `cap` of an image come out, zeros after them.
    """
    graph = model.graph
    t = _Tail(model, "nms")
    limits = [
        t.const("topk_all", [nms.cap], np.int64),
        t.const("iou_thres", [nms.iou_threshold]),
        t.const("conf_thres", [nms.score_threshold]),
    ]
    selected = t.add("NonMaxSuppression", "selected", boxes, by_class, *limits)
    selected_scores = t.add("GatherND", "kept_scores", by_class, selected)
    where = t.add("Gather", "image_and_row", selected, t.const("columns02", [0, 2], np.int64), axis=1)
    own = _own_image(t, graph, t.column("image", selected, 0), batch)
    row = t.add(
        "Where",
        "scores_by_image",
        own,
        t.along("Unsqueeze", "kept_row", selected_scores, 0),
        t.const("no_score", -1.0),
    )
    filled = t.add("Concat", "filled", row, _padding(t, graph, nms.cap, batch), axis=1)
    best, order = "nms/best", "nms/place"
    cap = t.const("topk_all", [nms.cap], np.int64)
    graph.node.append(helper.make_node("TopK", [filled, cap], [best, order], name="nms/TopK", axis=1))
    valid = t.add("Greater", "valid", best, t.const("zero", 0.0))
    counted = t.add("Cast", "counted", valid, to=onnx.TensorProto.INT32)
    t.along("ReduceSum", "num_dets", counted, 1, output="num_dets", keepdims=1)
    all_boxes = t.add(
        "Concat",
        "all_boxes",
        t.add("GatherND", "kept_boxes", boxes, where),
        t.const("no_boxes", np.zeros((nms.cap, 4))),
        axis=0,
    )
    t.add("Gather", "det_boxes", all_boxes, order, output="det_boxes", axis=0)
    t.add("Where", "det_scores", valid, best, t.const("zero", 0.0), output="det_scores")
    labels = t.add("Cast", "labels", t.column("label", selected, 1), to=onnx.TensorProto.INT32)
    all_labels = t.add("Concat", "all_labels", labels, t.const("no_labels", np.zeros(nms.cap), np.int32), axis=0)
    t.add("Gather", "det_classes", all_labels, order, output="det_classes", axis=0)
    _four_outputs(graph, nms, "batch" if batch is None else batch)


def _padding(t: _Tail, graph: onnx.GraphProto, cap: int, batch: Optional[int]) -> str:
    """(B, cap) of -1, so that there are always `cap` entries to choose from."""
    if batch is not None:
        return t.const("no_scores", np.full((batch, cap), -1.0))
    shape = t.add(
        "Concat",
        "padding_shape",
        t.along("Unsqueeze", "batch_column", "nms/batch", 0),
        t.const("topk_all", [cap], np.int64),
        axis=0,
    )
    return t.add("Expand", "no_scores", t.const("no_score", -1.0), shape)
