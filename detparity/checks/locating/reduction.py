"""A failing part made smaller where that still shows the difference: one channel of its weights, a window of its pictures, half of an
axis after the other until it fits into a bundle; at last by zeros (`blanking.py`).

A number of a smaller part is judged where it is that of the complete part.
"""

from __future__ import annotations

from dataclasses import replace
from typing import Callable, Iterator, Optional, Tuple

import numpy as np

from detparity.artifacts import onnx_fed
from detparity.checks.locating.blanking import blanked
from detparity.checks.locating.bundle import LARGEST, Part, run

WINDOWS = (16, 8, 4)  # cells of the input
BESIDE = 10_000  # bytes of a bundle that are neither weights nor arrays
Change = Callable[[Part], Optional[Part]]


def smaller(part: Part) -> Part:
    """The same with fewer weights and numbers, where that still shows the difference."""
    for change in (_bare, _one_channel, _window(WINDOWS[0])):
        part = _changed(part, change) or part
    while part.size > LARGEST - BESIDE:
        found = next((one for one in (_changed(part, change) for change in _changes(part)) if one is not None), None)
        if found is None:
            return blanked(part, LARGEST - BESIDE, lambda before, after: _judged(before, after, before.found))
        part = found
    return part


def _changed(part: Part, change: Change) -> Optional[Part]:
    try:
        reduced = change(part)
    except Exception:  # the part is of another form: it stays as it is
        return None
    return reduced if reduced is not None and reduced.shows and reduced.size < part.size else None


def _changes(part: Part) -> Iterator[Change]:
    for cells in WINDOWS[1:]:
        yield _window(cells)
    for axis in sorted(range(part.expected.ndim), key=lambda axis: -part.expected.shape[axis]):
        if part.expected.shape[axis] > 1:
            yield _halved(axis)


def _worst(part: Part) -> Tuple[int, ...]:
    """The position of the largest error that counts."""
    error = np.where(part.judged, np.abs(part.found - part.expected), -1.0)
    return tuple(int(one) for one in np.unravel_index(int(np.nan_to_num(error, nan=np.inf).argmax()), error.shape))


def _bare(part: Part) -> Optional[Part]:
    """Without what does not compute."""
    model = onnx_fed.without_shapes(part.model)
    return _of(part, model, part.inputs, (slice(None),) * part.expected.ndim)


def _one_channel(part: Part) -> Optional[Part]:
    """Of a convolution or a product the output channel that is most wrong."""
    at = _worst(part)
    found = onnx_fed.one_channel(part.model, at)
    if found is None:
        return None
    model, axis, left = found
    inputs = tuple(np.ascontiguousarray(one[:, left]) for one in part.inputs) if left != slice(None) else part.inputs
    window = tuple(slice(k, k + 1) if one == axis else slice(None) for one, k in enumerate(at))
    return _of(part, model, inputs, window)


def _window(cells: int) -> Change:
    """A window of (B, C, H, W) inputs of one height and width, around what is most wrong."""

    def change(part: Part) -> Optional[Part]:
        shapes = {one.shape[2:] for one in part.inputs}
        if any(one.ndim != 4 for one in (*part.inputs, part.found)) or len(shapes) != 1:
            return None
        (size,) = shapes
        rows, columns = (_span(part, axis, size[axis], cells) for axis in (0, 1))
        inputs = tuple(np.ascontiguousarray(one[:, :, slice(*rows[0]), slice(*columns[0])]) for one in part.inputs)
        return _of(part, part.model, inputs, (slice(None), slice(None), slice(*rows[1]), slice(*columns[1])))

    return change


def _span(part: Part, axis: int, size: int, cells: int) -> Tuple[Tuple[int, int], Tuple[int, int]]:
    """Where a window begins and ends, in the input and in the output."""
    out = part.found.shape[2 + axis]
    at = _worst(part)[2 + axis]
    if max(size, out) % min(size, out):
        raise ValueError("it is not enlarged or reduced by an integer factor")
    step = max(size // out, 1)
    middle = at * size // out
    start = max(0, min(middle - cells // 2, size - cells)) // step * step
    end = min(start + max(cells, step), size)
    return (start, end), (start * out // size, end * out // size)


def _halved(axis: int) -> Change:
    """Half of an axis of the output, and of every input that has as many numbers there."""

    def change(part: Part) -> Optional[Part]:
        rank, count = part.expected.ndim, part.expected.shape[axis]
        half = (count + 1) // 2
        start = max(0, min(_worst(part)[axis] - half // 2, count - half))
        some = slice(start, start + half)

        def cut(one: np.ndarray) -> np.ndarray:
            mine = axis - (rank - one.ndim)
            if mine < 0 or one.shape[mine] != count:
                return one
            return np.ascontiguousarray(one[tuple(some if k == mine else slice(None) for k in range(one.ndim))])

        window = tuple(some if k == axis else slice(None) for k in range(rank))
        return _of(part, part.model, tuple(map(cut, part.inputs)), window)

    return change


def _of(part: Part, model: bytes, inputs: Tuple[np.ndarray, ...], window: Tuple[slice, ...]) -> Optional[Part]:
    """A part that gives a window of what another gives, judged where it gives the same."""
    after = Part(model, inputs, run(model, inputs), part.expected[window], part.judged[window], part.allowed)
    return _judged(part, after, part.found[window])


def _judged(part: Part, after: Part, before: np.ndarray) -> Optional[Part]:
    """A changed part, judged where it gives what it gave before."""
    found = after.found
    if found.shape != before.shape:
        return None
    with np.errstate(invalid="ignore"):
        same = (np.abs(found - before) <= part.allowed) | (found == before) | (np.isnan(found) & np.isnan(before))
    return replace(after, judged=same & after.judged)
