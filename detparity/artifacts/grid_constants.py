"""Constants that are a grid of cell positions, and the image size they belong to."""

from __future__ import annotations

from typing import TYPE_CHECKING, List, Mapping, Optional, Sequence, Tuple

import numpy as np

from detparity.core.vocabulary import ModelFacts, Size

if TYPE_CHECKING:
    from detparity.artifacts.torchscript_facts import Constant


def grid_cells(value: np.ndarray) -> Optional[Size]:
    """Rows and columns where `value` is a grid of cell positions, else None.

    A grid holds every pair (x, y) of two evenly spaced ranges once, along a last axis of two, whatever its other axes, order,
    offset and scale; or one coordinate alone that steps along one axis and repeats along another.
    """
    if value.dtype.kind not in "fiu" or value.size < 4 or value.size > 10_000_000 or not np.isfinite(value).all():
        return None
    if value.shape[-1] == 2:
        x, y = value[..., 0].ravel(), value[..., 1].ravel()
        nx, ny = _range_length(x), _range_length(y)
        if nx and ny and nx * ny > 1 and x.size == nx * ny and len(np.unique(np.stack([x, y]), axis=1).T) == x.size:
            return ny, nx
    plane = value.squeeze()
    if plane.ndim == 2 and min(plane.shape) > 1:
        if _range_length(plane[0]) == plane.shape[1] and (plane == plane[:1]).all():
            return plane.shape[0], plane.shape[1]
        if _range_length(plane[:, 0]) == plane.shape[0] and (plane == plane[:, :1]).all():
            return plane.shape[0], plane.shape[1]
    return None


def _range_length(values: np.ndarray) -> int:
    """How many distinct values there are, if they are evenly spaced; else 0."""
    distinct = np.unique(values)
    if len(distinct) < 3:
        return len(distinct)
    steps = np.diff(distinct.astype(np.float64))
    return len(distinct) if np.allclose(steps, steps[0], rtol=1e-4) else 0


def stuck_size(cells: Sequence[Size], facts: ModelFacts) -> Optional[Size]:
    """The image size these grids belong to, if they match the levels one to one."""
    ordered, strides = sorted(set(cells), reverse=True), sorted(set(facts.strides))
    sizes = {(ny * stride, nx * stride) for (ny, nx), stride in zip(ordered, strides)}
    return sizes.pop() if len(ordered) == len(strides) and len(sizes) == 1 else None


def grid_constants(constants: Mapping[str, np.ndarray], facts: ModelFacts) -> List[Tuple[str, Size]]:
    """Names and cells of the constants that are grids. Evenly spaced anchors would look like one, so they are left out."""
    candidates = [(name, value) for name, value in constants.items() if value.ndim >= 2 and not _anchors(value, facts)]
    found = [(name, grid_cells(value)) for name, value in candidates]
    return [(name, cells) for name, cells in found if cells]


def _anchors(value: np.ndarray, facts: ModelFacts) -> bool:
    """Whether these numbers are the anchors of a level, in whatever unit: pixels, cells, or multiplied by what decodes them."""
    levels = [np.asarray(level, np.float64).ravel() for level in facts.anchors]
    same_size = [level for level in levels if level.size == value.size and value.dtype.kind in "fiu" and value.flat[0]]
    return any(np.allclose(value.ravel() / value.flat[0], level / level[0], rtol=1e-3) for level in same_size)


def script_grids(constants: Sequence[Constant], facts: ModelFacts) -> List[Tuple[Constant, Size]]:
    """The frozen tensors that are grids, with their cells. Evenly spaced anchors would look like one, so they are left out."""
    found = []
    for constant in constants:
        value = constant.value
        cells = grid_cells(value) if value.ndim >= 2 and not _anchors(value, facts) else None
        if cells:
            found.append((constant, cells))
    return found
