"""Operators that choose, gather and scatter, and the one loop."""

from __future__ import annotations

from typing import Any, Dict, List, Optional, Tuple

import numpy as np
import torch
from onnx.helper import tensor_dtype_to_np_dtype
from onnx.reference.op_run import OpRun

from detparity.engines.exact.operator import Array, Node, numbers, refuse, tensor
from detparity.oracle.nms import efficient_nms


def top_k(node: Node, x: Array, k: Any = None) -> Tuple[Array, Array]:
    """Equal numbers in the order of their indices."""
    count = int(np.ravel(node.get("k", k))[0])
    axis = int(node.get("axis", -1))
    refuse(count > x.shape[axis], f"it takes the best {count} of {x.shape[axis]}")
    values, indices = torch.sort(tensor(x), dim=axis, descending=bool(node.get("largest", 1)), stable=True)
    return values.narrow(axis, 0, count).contiguous().numpy(), indices.narrow(axis, 0, count).contiguous().numpy()


def _one(values: Any, default: float) -> float:
    found = numbers(values)
    return default if found is None else float(np.ravel(found)[0])


def non_max_suppression(
    node: Node, boxes: Array, scores: Array, cap: Any = None, iou_threshold: Any = None, score_threshold: Any = None
) -> Array:
    """Rows (image, class, box), by image, class and falling score. A score must exceed its threshold; an IoU above its own
    suppresses."""
    most, limit, least = int(_one(cap, 0)), _one(iou_threshold, 0.0), _one(score_threshold, -np.inf)
    found: List[Tuple[int, int, int]] = []
    for image in range(len(boxes)):
        ends = _ends(boxes[image], bool(node.get("center_point_box", 0)))
        for kind in range(scores.shape[1]):
            chosen = _greedy(ends, scores[image, kind], most, limit, least)
            found.extend((image, kind, index) for index in chosen)
    return np.array(found, np.int64).reshape(-1, 3)


def _ends(boxes: Array, centred: bool) -> Tuple[Array, Array]:
    """Smaller and larger corner of each box; which axis comes first does not matter."""
    if centred:
        return boxes[:, :2] - boxes[:, 2:] / 2, boxes[:, :2] + boxes[:, 2:] / 2
    return np.minimum(boxes[:, :2], boxes[:, 2:]), np.maximum(boxes[:, :2], boxes[:, 2:])


def _greedy(ends: Tuple[Array, Array], scores: Array, most: int, limit: float, least: float) -> List[int]:
    order = np.nonzero(scores > least)[0]
    order = order[np.argsort(-scores[order], kind="stable")]
    (left, top), (right, bottom) = (np.ascontiguousarray(corner[order].T) for corner in ends)
    areas = (right - left) * (bottom - top)
    alive = np.ones(len(order), bool)
    chosen: List[int] = []
    for index, box in enumerate(order):
        if len(chosen) == most:
            break
        if not alive[index]:
            continue
        chosen.append(int(box))
        rest = index + 1
        width = np.minimum(right[index], right[rest:]) - np.maximum(left[index], left[rest:])
        near = np.nonzero(width > 0)[0]
        height = np.minimum(bottom[index], bottom[near + rest]) - np.maximum(top[index], top[near + rest])
        shared = width[near] * np.maximum(height, 0)
        near = near[shared > limit * (areas[index] + areas[near + rest] - shared)]
        alive[near + rest] = False
    return chosen


def efficient(node: Node, boxes: Array, scores: Array, *_: Any) -> Tuple[Array, ...]:
    """TensorRT's plugin by its documented semantics; its parser takes the first of several values."""
    found: Dict[str, Any] = {"background_class": -1, "score_activation": 0, "box_coding": 0, "class_agnostic": 0}
    for key in ("score_threshold", "iou_threshold", "max_output_boxes", *found):
        value = node.get(key)
        if value is not None:
            found[key] = np.ravel(value)[0].item()
        refuse(key not in found, f"it has no attribute {key}")
    answers = efficient_nms(boxes, scores, **found)
    return tuple(np.asarray(value, kind) for value, kind in zip(answers, (np.int32, node.kind, node.kind, np.int32)))


def _within(indices: Array, size: int) -> Array:
    return np.where(indices < 0, indices + size, indices).astype(np.int64)


def gather(node: Node, x: Array, indices: Array) -> Array:
    """No indices give no rows, of the others' shape: onnx's own evaluator gives an array of one axis."""
    return np.asarray(np.take(x, indices, axis=int(node.get("axis", 0))))


def gather_elements(node: Node, x: Array, indices: Array) -> Array:
    axis = int(node.get("axis", 0))
    return torch.gather(tensor(x), axis, tensor(_within(indices, x.shape[axis]))).numpy()


def gather_nd(node: Node, x: Array, indices: Array) -> Array:
    """The first `batch_dims` axes are those of both."""
    shared = int(node.get("batch_dims", 0))
    batch, depth = x.shape[:shared], indices.shape[-1]
    flat = x.reshape(-1, *x.shape[shared:])
    where = indices.reshape(len(flat), -1, depth)
    found = flat[(np.arange(len(flat))[:, None],) + tuple(np.moveaxis(where, -1, 0))]
    return found.reshape(*batch, *indices.shape[shared:-1], *x.shape[shared + depth :])


def scatter_elements(node: Node, x: Array, indices: Array, updates: Array) -> Array:
    axis = int(node.get("axis", 0)) % x.ndim
    where = list(np.indices(indices.shape, sparse=True))
    where[axis] = _within(indices, x.shape[axis])
    return _scattered(node, x, tuple(where), updates)


def scatter_nd(node: Node, x: Array, indices: Array, updates: Array) -> Array:
    return _scattered(node, x, tuple(np.moveaxis(indices, -1, 0)), updates)


def _scattered(node: Node, x: Array, where: Tuple[Array, ...], updates: Array) -> Array:
    found = x.copy()
    reduction = node.text("reduction", "none")
    if reduction == "none":
        found[where] = updates
    else:
        joins = {"add": np.add, "mul": np.multiply, "min": np.minimum, "max": np.maximum}
        joins[reduction].at(found, where, updates)
    return found


def pad(node: Node, x: Array, pads: Any = None, value: Any = None, axes: Any = None) -> Array:
    """Negative pads cut."""
    amounts = np.ravel(node.get("pads", node.get("paddings", pads))).astype(int)
    chosen = [int(axis) % x.ndim for axis in (range(x.ndim) if axes is None else axes)]
    width = [(0, 0)] * x.ndim
    for index, axis in enumerate(chosen):
        width[axis] = (int(amounts[index]), int(amounts[index + len(chosen)]))
    x = x[tuple(slice(max(-a, 0), size - max(-b, 0)) for (a, b), size in zip(width, x.shape))]
    width = [(max(a, 0), max(b, 0)) for a, b in width]
    mode = node.text("mode", "constant")
    if mode != "constant":
        return np.pad(x, width, mode=mode)  # type: ignore[call-overload]
    filled = numbers(node.get("value", value))
    return np.pad(x, width, constant_values=0 if filled is None else filled.reshape(-1)[0])


class Loop(OpRun):
    """As the operator states it: carried values, then what each round gives, stacked (onnx joins these end to end)."""

    op_domain = ""
    body: Any

    def need_context(self) -> bool:
        return True

    def _run(
        self, count: Optional[Array], condition: Optional[Array], *carried: Any, context: Any = None, **_: Any
    ) -> Tuple[Any, ...]:
        names, attributes = self.body.input_names, _.get("attributes")
        values: List[Any] = list(carried)
        scanned: List[List[Array]] = [[] for _ in range(len(self.body.output_names) - 1 - len(values))]
        index, going = 0, True if condition is None else bool(np.all(condition))
        while going and (count is None or index < int(np.ravel(count)[0])):
            feed = {**context, **dict(zip(names, [np.array(index, np.int64), np.array(True), *values]))}
            going, *found = self.body.run(None, feed, attributes=attributes)
            going = bool(np.all(going))
            values = found[: len(values)]
            for stack, value in zip(scanned, found[len(values) :]):
                stack.append(value)
            index += 1
        return (*values, *(self._stacked(number, stack) for number, stack in enumerate(scanned, 1 + len(values))))

    def _stacked(self, number: int, values: List[Array]) -> Array:
        if values:
            return np.stack(values)
        declared = self.body.output_types[number].tensor_type
        sizes = [dim.dim_value for dim in declared.shape.dim]
        return np.zeros([0, *sizes], tensor_dtype_to_np_dtype(declared.elem_type))
