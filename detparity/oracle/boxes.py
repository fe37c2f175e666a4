"""Geometry of axis-aligned boxes in float64.

A box is the rectangle spanned by two diagonal corners, `x1, y1, x2, y2` in pixels, in any order: an inverted
box (x1 > x2 or y1 > y2) is the rectangle it spans, which is how ONNX `NonMaxSuppression` and the TensorRT
plugin `EfficientNMS_TRT` read it. A box without area has IoU 0 with every box, itself included, as in both
operators.
"""

from __future__ import annotations

from typing import Any, Tuple

import numpy as np
import numpy.typing as npt

Floats = npt.NDArray[np.float64]

# An operator evaluates the IoU of float32 corners in float32. Each of its roundings is at most 2**-24 of a
# quantity no larger than the two areas together, hence than twice the union; fewer than eight of them reach
# the quotient.
FLOAT32_IOU = 2.0**-20


def corners(centre_size: npt.ArrayLike) -> Floats:
    """Corners `x1, y1, x2, y2` of boxes given as `cx, cy, w, h`; shape (..., 4) in and out.

    A negative size gives an inverted box.
    """
    boxes = np.asarray(centre_size, dtype=np.float64)
    half = boxes[..., 2:4] / 2
    return np.concatenate([boxes[..., 0:2] - half, boxes[..., 0:2] + half], axis=-1)


def ordered(boxes: npt.ArrayLike) -> Floats:
    """The same rectangles, (..., 4), with x1 <= x2 and y1 <= y2."""
    values = np.asarray(boxes, dtype=np.float64)
    first, second = values[..., 0:2], values[..., 2:4]
    return np.concatenate([np.minimum(first, second), np.maximum(first, second)], axis=-1)


def iou(a: npt.ArrayLike, b: npt.ArrayLike) -> Floats:
    """Intersection over union of boxes (..., 4) and (..., 4), broadcast against each other; shape (...)."""
    a, b = ordered(a), ordered(b)
    low, high = np.maximum(a[..., 0:2], b[..., 0:2]), np.minimum(a[..., 2:4], b[..., 2:4])
    intersection = _area(high - low)
    union = _area(a[..., 2:4] - a[..., 0:2]) + _area(b[..., 2:4] - b[..., 0:2]) - intersection
    return _ratio(intersection, union, empty=0.0)


def pairwise_iou(a: npt.ArrayLike, b: npt.ArrayLike) -> Floats:
    """IoU of every box of `a` (n, 4) with every box of `b` (m, 4); shape (n, m)."""
    return iou(np.asarray(a)[:, None, :], np.asarray(b)[None, :, :])


def iou_bounds(
    a: npt.ArrayLike, b: npt.ArrayLike, move_a: npt.ArrayLike, move_b: npt.ArrayLike
) -> Tuple[Floats, Floats]:
    """Bounds of the IoU that a float32 operator may find when each coordinate of each box may move.

    Boxes are (..., 4), moves are pixels of shape (...) and hold for each of the four coordinates
    independently; all four arguments broadcast. Returns (lowest, highest), each of shape (...), within 0..1.

    Interval arithmetic: the ends of the intersection move no further than the coordinates they are taken
    from, so each side of the intersection has exact bounds; each side of a box changes by at most twice its
    move. IoU = I / (areas - I) rises with I and falls with the areas, so the opposite ends of their intervals
    bound it. The dependence between I and the areas is ignored, which makes the bounds wider than the
    reachable range, never narrower: to first order highest - lowest is at most 32 t / s for the larger move t
    and the shortest side s. Where the areas may vanish the highest is 1. `FLOAT32_IOU` of the value is added
    on both sides for the operator's own arithmetic.
    """
    a, b = ordered(a), ordered(b)
    move_a = np.asarray(move_a, dtype=np.float64)[..., None]
    move_b = np.asarray(move_b, dtype=np.float64)[..., None]

    sides_a, sides_b = a[..., 2:4] - a[..., 0:2], b[..., 2:4] - b[..., 0:2]
    least_areas = _area(sides_a - 2 * move_a) + _area(sides_b - 2 * move_b)
    most_areas = _area(sides_a + 2 * move_a) + _area(sides_b + 2 * move_b)

    least = _area(
        np.minimum(a[..., 2:4] - move_a, b[..., 2:4] - move_b) - np.maximum(a[..., 0:2] + move_a, b[..., 0:2] + move_b)
    )
    most = _area(
        np.minimum(a[..., 2:4] + move_a, b[..., 2:4] + move_b) - np.maximum(a[..., 0:2] - move_a, b[..., 0:2] - move_b)
    )
    lowest = _ratio(least, most_areas - least, empty=0.0) * (1 - FLOAT32_IOU)
    highest = _ratio(most, least_areas - most, empty=1.0) * (1 + FLOAT32_IOU)
    return np.clip(lowest, 0.0, 1.0), np.clip(highest, 0.0, 1.0)


def _area(sides: Floats) -> Floats:
    """Area of rectangles with the given sides (..., 2); nothing where a side is not positive."""
    positive = np.maximum(sides, 0.0)
    return np.asarray(positive[..., 0] * positive[..., 1])


def _ratio(intersection: Floats, union: Floats, empty: float) -> Floats:
    """intersection / union; 0 without an intersection, `empty` where there is one but no union to divide
    by."""
    divisible = (intersection > 0) & (union > 0)
    result: Any = np.where(intersection > 0, empty, 0.0)
    return np.asarray(np.divide(intersection, union, out=result, where=divisible))
