"""Operators that move a window over space: convolutions by torch, pools axis by axis."""

from __future__ import annotations

from typing import Any, Callable, List, Sequence, Tuple, cast

import numpy as np
import torch

from detparity.engines.exact.operator import Array, Node, along, refuse, tensor
from detparity.models.exact_conv import by_strips

_CONVOLUTIONS: Sequence[Any] = (
    torch.nn.functional.conv1d,
    torch.nn.functional.conv2d,
    torch.nn.functional.conv3d,
)
_TRANSPOSED: Sequence[Any] = (
    torch.nn.functional.conv_transpose1d,
    torch.nn.functional.conv_transpose2d,
    torch.nn.functional.conv_transpose3d,
)


ALL = (slice(None), slice(None))  # images and channels


def _filled(node: Node, space: int) -> Tuple[List[int], List[int]]:
    """Strides and dilations of each axis."""
    return list(node.get("strides", [1] * space)), list(node.get("dilations", [1] * space))


def _pads(
    node: Node, sizes: Sequence[int], spans: Sequence[int], strides: Sequence[int]
) -> Tuple[List[int], List[int]]:
    """Cells added before and after each axis. spans: cells from the first to the last tap of a window."""
    automatic = node.text("auto_pad", "NOTSET")
    if automatic in ("SAME_UPPER", "SAME_LOWER"):
        total = [
            max((-(-size // stride) - 1) * stride + span - size, 0) for size, span, stride in zip(sizes, spans, strides)
        ]
        small, large = [value // 2 for value in total], [value - value // 2 for value in total]
        return (small, large) if automatic == "SAME_UPPER" else (large, small)
    pads = [0] * (2 * len(sizes)) if automatic == "VALID" else list(node.get("pads", [0] * (2 * len(sizes))))
    return pads[: len(sizes)], pads[len(sizes) :]


def _padded(x: Array, before: Sequence[int], after: Sequence[int], value: Any = 0) -> Array:
    if not any(before) and not any(after):
        return x
    width = [(0, 0)] * (x.ndim - len(before)) + list(zip(before, after))
    return np.pad(x, width, constant_values=value)


def conv(node: Node, x: Array, w: Array, b: Any = None) -> Array:
    space = x.ndim - 2
    refuse(not 1 <= space <= 3, f"a convolution over {space} axes is not supported")
    strides, dilations = _filled(node, space)
    spans = [(size - 1) * dilation + 1 for size, dilation in zip(w.shape[2:], dilations)]
    before, after = _pads(node, x.shape[2:], spans, strides)
    group = int(node.get("group", 1))
    x = _padded(x, before, after)
    if group == x.shape[1] == w.shape[0] > 1:
        found = _depthwise(x, w, strides, dilations)
        return found if b is None else found + along(b, found.ndim, 1)
    bias = None if b is None else tensor(b)
    run = _CONVOLUTIONS[space - 1]

    def convolve(part: torch.Tensor, padding: Sequence[int]) -> torch.Tensor:
        return cast(torch.Tensor, run(part, tensor(w), bias, tuple(strides), tuple(padding), tuple(dilations), group))

    none = [0] * space
    if space == 2:
        return by_strips(tensor(x), tensor(w), bias, (strides, none, dilations), convolve).numpy()
    return convolve(tensor(x), none).numpy()


def _depthwise(x: Array, w: Array, strides: Sequence[int], dilations: Sequence[int]) -> Array:
    """One kernel a channel: a sum of shifted images (torch would run a matrix product for each channel)."""
    sizes = [
        (size - (taps - 1) * dilation - 1) // stride + 1
        for size, taps, stride, dilation in zip(x.shape[2:], w.shape[2:], strides, dilations)
    ]
    found = torch.zeros((*x.shape[:2], *sizes), dtype=tensor(x).dtype)
    source, weights = tensor(x), tensor(w)
    for taps in np.ndindex(*w.shape[2:]):
        cells = tuple(
            slice(tap * dilation, tap * dilation + (size - 1) * stride + 1, stride)
            for tap, size, stride, dilation in zip(taps, sizes, strides, dilations)
        )
        weight = weights[(slice(None), 0) + taps].reshape(1, -1, *[1] * len(sizes))
        found.addcmul_(source[ALL + cells], weight)
    return found.numpy()


def conv_transpose(node: Node, x: Array, w: Array, b: Any = None) -> Array:
    """The complete transposed convolution, then cut by the pads; `output_padding` lets the cut reach past its end."""
    space = x.ndim - 2
    refuse(not 1 <= space <= 3, f"a transposed convolution over {space} axes is not supported")
    strides, dilations = _filled(node, space)
    extra = list(node.get("output_padding", [0] * space))
    made = _TRANSPOSED[space - 1](
        tensor(x), tensor(w), None, tuple(strides), 0, 0, int(node.get("group", 1)), tuple(dilations)
    ).numpy()
    made = _padded(made, [0] * space, extra)
    before, after = _cuts(node, x.shape[2:], made.shape[2:], strides)
    made = _padded(made, [max(-cut, 0) for cut in before], [max(-cut, 0) for cut in after])
    cells = tuple(slice(max(cut, 0), size - max(end, 0)) for cut, end, size in zip(before, after, made.shape[2:]))
    made = made[ALL + cells]
    return np.ascontiguousarray(made if b is None else made + along(b, made.ndim, 1))


def _cuts(
    node: Node, sizes: Sequence[int], complete: Sequence[int], strides: Sequence[int]
) -> Tuple[List[int], List[int]]:
    automatic = node.text("auto_pad", "NOTSET")
    shape = node.get("output_shape")
    if shape is None and automatic not in ("SAME_UPPER", "SAME_LOWER"):
        pads = [0] * (2 * len(sizes)) if automatic == "VALID" else list(node.get("pads", [0] * (2 * len(sizes))))
        return pads[: len(sizes)], pads[len(sizes) :]
    asked = [size * stride for size, stride in zip(sizes, strides)] if shape is None else list(shape)[-len(sizes) :]
    total = [size - want for size, want in zip(complete, asked)]
    small, large = [value // 2 for value in total], [value - value // 2 for value in total]
    return (small, large) if automatic == "SAME_UPPER" else (large, small)


def _pooled(node: Node, x: Array, value: Any, join: Callable[..., Any]) -> Array:
    """Join the cells of every window, one axis after the other; `value` fills the cells outside. join: as numpy's `add`."""
    kernel = list(node.attributes["kernel_shape"])
    strides, dilations = _filled(node, len(kernel))
    spans = [(size - 1) * dilation + 1 for size, dilation in zip(kernel, dilations)]
    before, after = _pads(node, x.shape[2:], spans, strides)
    sizes = _counts(node, x.shape[2:], spans, strides, (before, after))
    # The last window of `ceil_mode` may end past the padding.
    after = [
        max((count - 1) * stride + span - size - start, 0)
        for count, stride, span, size, start in zip(sizes, strides, spans, x.shape[2:], before)
    ]
    x = _padded(x, before, after, value)
    for axis, (taps, stride, dilation, count) in enumerate(zip(kernel, strides, dilations, sizes), 2):
        cells = [
            x[(slice(None),) * axis + (slice(tap * dilation, tap * dilation + (count - 1) * stride + 1, stride),)]
            for tap in range(taps)
        ]
        x = cells[0].copy()
        for one in cells[1:]:
            join(x, one, out=x)
    return x


def _counts(
    node: Node, sizes: Sequence[int], spans: Sequence[int], strides: Sequence[int], pads: Tuple[List[int], List[int]]
) -> List[int]:
    """Windows along each axis; with `ceil_mode` one more where it starts on the image or the padding before it."""
    if node.text("auto_pad", "NOTSET") in ("SAME_UPPER", "SAME_LOWER"):
        return [-(-size // stride) for size, stride in zip(sizes, strides)]
    found = []
    for size, span, stride, before, after in zip(sizes, spans, strides, *pads):
        left = size + before + after - span
        count = (-(-left // stride) if node.get("ceil_mode", 0) else left // stride) + 1
        found.append(count - 1 if (count - 1) * stride >= size + before and node.get("ceil_mode", 0) else count)
    return found


def max_pool(node: Node, x: Array) -> Any:
    if node.outputs > 1:
        return _with_indices(node, x)
    lowest = -np.inf if np.issubdtype(x.dtype, np.floating) else np.iinfo(x.dtype).min
    return _pooled(node, x, lowest, np.maximum)


def _with_indices(node: Node, x: Array) -> Tuple[Array, Array]:
    """Largest numbers, and where they lie in the flat tensor: the first of equal ones. Each cell carries its rank in the order of
    values, so that the largest rank of a window names its cell."""
    flat = x.reshape(-1)
    order = np.lexsort((-np.arange(flat.size), flat))
    ranks = np.empty(flat.size, np.int64)
    ranks[order] = np.arange(flat.size)
    found = order[_pooled(node, ranks.reshape(x.shape), -1, np.maximum)]
    values = flat[found]
    if node.get("storage_order", 0):
        plane = int(np.prod(x.shape[2:]))
        cells = np.unravel_index(found % plane, x.shape[2:])
        turned = np.ravel_multi_index(cells[::-1], x.shape[:1:-1])
        found = found // plane * plane + turned
    return values, found


def average_pool(node: Node, x: Array) -> Array:
    """Sums over counts. With `count_include_pad` the padding counts, what `ceil_mode` adds after it does not."""
    kernel = list(node.attributes["kernel_shape"])
    ones = np.ones((1, 1, *x.shape[2:]), x.dtype)
    summed = _pooled(node, x, 0, np.add)
    if not node.get("count_include_pad", 0):
        return summed / _pooled(node, ones, 0, np.add)
    strides, dilations = _filled(node, len(kernel))
    spans = [(size - 1) * dilation + 1 for size, dilation in zip(kernel, dilations)]
    before, after = _pads(node, x.shape[2:], spans, strides)
    with_padding = Node(
        {key: value for key, value in node.attributes.items() if key not in ("pads", "auto_pad", "ceil_mode")},
        node.opset,
        node.kind,
    )
    covered = _padded(ones, before, after, 1)
    missing = [
        max((count - 1) * stride + span - size, 0)
        for count, stride, span, size in zip(summed.shape[2:], strides, spans, covered.shape[2:])
    ]
    counts = _pooled(with_padding, _padded(covered, [0] * len(kernel), missing), 0, np.add)
    return summed / counts[ALL + tuple(slice(size) for size in summed.shape[2:])]
