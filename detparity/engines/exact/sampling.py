"""Operators that read an image between its cells: Resize, Upsample, GridSample, AffineGrid, RoiAlign."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, List, Optional, Sequence, Tuple

import numpy as np
import torch

from detparity.engines.exact.operator import Array, Node, floating, numbers, refuse, tensor


@dataclass(frozen=True)
class _Axis:
    """One axis that is resized: cells before and after, the scale, and of a crop where it starts and ends (0..1)."""

    axis: int
    size: int
    out: int
    scale: float
    crop: Tuple[float, float] = (0.0, 1.0)


def resize(node: Node, x: Array, *inputs: Any) -> Array:
    """Inputs after the image: scales (opset 10) or roi, scales and sizes, any of them empty."""
    roi, scales, sizes = (*([None] if node.opset < 11 else []), *inputs, None, None, None)[:3]
    axes = [axis % x.ndim for axis in node.get("axes", range(x.ndim))]
    crops = _crops(numbers(roi), len(axes))
    plan = _plan(node, [x.shape[axis] for axis in axes], numbers(scales), numbers(sizes))
    resized = [_Axis(axis, x.shape[axis], out, scale, crop) for axis, (out, scale), crop in zip(axes, plan, crops)]
    return _resized(node, x, resized)


def upsample(node: Node, x: Array, scales: Any = None) -> Array:
    given = node.get("scales", scales)
    if given is None:
        given = [1.0, 1.0, node.attributes["height_scale"], node.attributes["width_scale"]]
    plan = _plan(node, x.shape, np.asarray(given), None)
    resized = [_Axis(axis, x.shape[axis], *one) for axis, one in enumerate(plan)]
    return _resized(Node(node.attributes, 9, node.kind), x, resized)


def _crops(roi: Optional[Array], count: int) -> List[Tuple[float, float]]:
    if roi is None:
        return [(0.0, 1.0)] * count
    return [(float(roi[index]), float(roi[count + index])) for index in range(count)]


def _plan(node: Node, sizes: Sequence[int], scales: Optional[Array], asked: Optional[Array]) -> List[Tuple[int, float]]:
    """Cells and scale of each axis. A length that follows from a scale is computed in float32, as the operator's types state: ten
    cells by 0.7 are seven, not 6.9999999."""
    if asked is None:
        given: Array = () if scales is None else scales
        refuse(scales is None, "it gives neither scales nor sizes")
        return [(int(np.float32(size) * np.float32(scale)), float(scale)) for size, scale in zip(sizes, given)]
    ratios = [int(out) / size for out, size in zip(asked, sizes)]
    policy = node.text("keep_aspect_ratio_policy", "stretch")
    if policy == "stretch":
        return [(int(out), ratio) for out, ratio in zip(asked, ratios)]
    scale = min(ratios) if policy == "not_larger" else max(ratios)
    return [(int(scale * size + 0.5), scale) for size in sizes]


def _resized(node: Node, x: Array, plan: Sequence[_Axis]) -> Array:
    mode = node.text("mode", "nearest")
    crop = node.text("coordinate_transformation_mode", "") == "tf_crop_and_resize"
    changed = [one for one in plan if one.out != one.size or one.scale != 1 or (crop and one.crop != (0.0, 1.0))]
    found = x if floating(x) or mode == "nearest" else x.astype(node.kind)
    for one in changed:
        if mode == "nearest":
            found = np.take(found, np.clip(_nearest(node, one), 0, one.size - 1), axis=one.axis)
        else:
            found = _weighted(found, one.axis, *_taps(node, mode, _coordinates(node, one), one))
    if crop:
        for one in changed:
            where = _coordinates(node, one)
            outside = (where < 0) | (where > one.size - 1)
            found[(slice(None),) * one.axis + (outside,)] = node.get("extrapolation_value", 0.0)
    if found.dtype != x.dtype:
        limits = np.iinfo(x.dtype)
        found = np.clip(found, limits.min, limits.max).astype(x.dtype)
    return found


def _coordinates(node: Node, one: _Axis, kind: Any = np.float64) -> Array:
    """Where each cell of the result lies on the source, in cells, computed in `kind`."""
    index, size, out, scale = np.arange(one.out, dtype=kind), kind(one.size), kind(one.out), kind(one.scale)
    half, last = kind(0.5), kind(one.size - 1)
    mode = node.text("coordinate_transformation_mode", "half_pixel") if node.opset >= 11 else "asymmetric"
    if mode == "asymmetric":
        return index / scale
    if mode == "align_corners":
        return index * last / (out - 1) if one.out > 1 else index * 0
    if mode == "tf_half_pixel_for_nn":
        return (index + half) / scale
    if mode == "tf_crop_and_resize":
        start, end = map(kind, one.crop)
        if one.out == 1:
            return index + half * (start + end) * last
        return start * last + index * (end - start) * last / (out - 1)
    if mode == "pytorch_half_pixel" and one.out == 1:
        return index * 0
    refuse(mode not in ("half_pixel", "pytorch_half_pixel", "half_pixel_symmetric"), f"its coordinates are {mode!r}")
    offset = size / 2 * (1 - out / (scale * size)) if mode == "half_pixel_symmetric" else kind(0)
    return offset + (index + half) / scale - half


def _nearest(node: Node, one: _Axis) -> Array:
    """Cells by the operator's rounding. The coordinates are computed in float32, the type of the scales: three cells by the
    nearest number to a third are one, not 0.99999997."""
    where = _coordinates(node, one, np.float32)
    mode = node.text("nearest_mode", "round_prefer_floor") if node.opset >= 11 else "floor"
    rounded = {
        "round_prefer_floor": lambda: np.ceil(where - np.float32(0.5)),
        "round_prefer_ceil": lambda: np.floor(where + np.float32(0.5)),
        "floor": lambda: np.floor(where),
        "ceil": lambda: np.ceil(where),
    }
    refuse(mode not in rounded, f"its nearest_mode is {mode!r}")
    return rounded[mode]().astype(np.int64)


def _taps(node: Node, mode: str, where: Array, one: _Axis) -> Tuple[Array, Array]:
    """Cells (out, taps) that each result reads and their weights."""
    refuse(mode not in ("linear", "cubic"), f"its mode is {mode!r}")
    reach = 1 if mode == "linear" else 2
    shrink = min(one.scale, 1.0) if node.get("antialias", 0) else 1.0
    first = int(np.floor(-reach / shrink)) + 1
    left = np.ceil(where) - 1  # the last cell before it, so that the distance is in (0, 1]
    steps = np.arange(first, 2 - first if node.get("antialias", 0) else reach + 1)
    distance = np.abs(left[:, None] + steps - where[:, None]) * shrink
    weights = np.clip(1 - distance, 0, 1) if mode == "linear" else _cubic(distance, node.get("cubic_coeff_a", -0.75))
    cells = (left[:, None] + steps).astype(np.int64)
    if node.get("exclude_outside", 0):
        weights = np.where((cells < 0) | (cells >= one.size), 0, weights)
    weights = weights / weights.sum(axis=1, keepdims=True)
    return np.clip(cells, 0, one.size - 1), weights


def _cubic(distance: Array, a: float) -> Array:
    near = ((a + 2) * distance - (a + 3)) * distance**2 + 1
    far = ((a * distance - 5 * a) * distance + 8 * a) * distance - 4 * a
    return np.where(distance <= 1, near, np.where(distance < 2, far, 0))


def _weighted(x: Array, axis: int, cells: Array, weights: Array) -> Array:
    shape = [-1 if index == axis else 1 for index in range(x.ndim)]
    weights = weights.astype(x.dtype)
    found = np.take(x, cells[:, 0], axis=axis) * weights[:, 0].reshape(shape)
    for tap in range(1, cells.shape[1]):
        found += np.take(x, cells[:, tap], axis=axis) * weights[:, tap].reshape(shape)
    return found


def grid_sample(node: Node, x: Array, grid: Array) -> Array:
    given = node.text("mode", "bilinear")
    mode = {"linear": "bilinear", "cubic": "bicubic"}.get(given, given)
    made = torch.nn.functional.grid_sample(
        tensor(x),
        tensor(grid),
        mode,
        node.text("padding_mode", "zeros"),
        bool(node.get("align_corners", 0)),
    )
    return made.numpy()


def affine_grid(node: Node, theta: Array, size: Array) -> Array:
    corners = bool(node.get("align_corners", 0))
    return torch.nn.functional.affine_grid(tensor(theta), [int(one) for one in size], corners).numpy()


def roi_align(node: Node, x: Array, rois: Array, images: Array) -> Array:
    """Averages of bilinear samples, one matrix of weights an axis; "max" takes the largest sample."""
    shape = (int(node.get("output_height", 1)), int(node.get("output_width", 1)))
    mode = node.text("mode", "avg")
    found = np.zeros((len(rois), x.shape[1], *shape), x.dtype)
    for index, (roi, image) in enumerate(zip(rois, images)):
        rows, columns = (_bins(node, roi[[1 - axis, 3 - axis]], x.shape[2 + axis], shape[axis]) for axis in (0, 1))
        sampled = np.einsum("ay,cyx,bx->cab", rows[0], x[int(image)][:, rows[1], columns[1]], columns[0], optimize=True)
        split = sampled.reshape(x.shape[1], shape[0], -1, shape[1], sampled.shape[2] // shape[1])
        found[index] = split.mean(axis=(2, 4)) if mode == "avg" else split.max(axis=(2, 4))
    return found


def _bins(node: Node, ends: Array, size: int, count: int) -> Tuple[Array, slice]:
    """Weights (count * samples, cells) along one axis, and the cells that they are of."""
    half = node.text("coordinate_transformation_mode", "half_pixel" if node.opset >= 16 else "output_half_pixel")
    start, end = ends * node.get("spatial_scale", 1.0) - (0.5 if half == "half_pixel" else 0.0)
    length = end - start if half == "half_pixel" else max(end - start, 1.0)
    ratio = int(node.get("sampling_ratio", 0))
    samples = ratio if ratio > 0 else max(int(np.ceil(length / count)), 1)
    where = start + (np.arange(count * samples) + 0.5) * length / (count * samples)
    inside = (where >= -1) & (where <= size) & bool(ratio > 0 or length > 0)
    where = np.clip(where, 0, size - 1)
    low = np.minimum(np.floor(where).astype(np.int64), size - 1)
    high = np.minimum(low + 1, size - 1)
    cells = slice(int(low.min()), int(high.max()) + 1)
    weights = np.zeros((len(where), cells.stop - cells.start))
    line = np.arange(len(where))
    np.add.at(weights, (line, low - cells.start), (1 - (where - low)) * inside)
    np.add.at(weights, (line, high - cells.start), (where - low) * inside)
    return weights, cells
