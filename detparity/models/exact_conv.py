"""Convolution in float64, by strips of the output.

torch lays out what each output number reads as one matrix (im2col) and multiplies it. In float64 that matrix is 118 MB for the
third layer of yolov7-tiny at 640x640, more than the caches hold and, at 1280x1280, more than a gigabyte. A strip of rows that fits
the caches takes its memory alone. Where there are some channels no matrix is made at all: what one cell of the kernel reads is the
strip itself, some numbers further on, so that each is one product of a part of it (benchmarks/test_exact_conv.py has the times). The
numbers are the same up to the order of the additions within float64.
"""

from __future__ import annotations

import contextlib
import itertools
from typing import Callable, Iterator, List, Optional, Sequence, Tuple, cast

import torch
from torch import nn
from torch.nn import functional

LARGE_BYTES = 32_000_000  # of the matrix, from which strips are faster
STRIP_BYTES = 4_000_000
# From which a product for each cell of the kernel is faster: of 8 channels at 320x320 it takes 1.9 times as long, of 16 0.9 times.
FEWEST_CHANNELS = 16
Convolve = Callable[
    [torch.Tensor, Sequence[int]], torch.Tensor
]  # of a part of the input, with a padding (rows, columns)


def by_strips(
    x: torch.Tensor,
    weight: torch.Tensor,
    bias: Optional[torch.Tensor],
    geometry: Sequence[Sequence[int]],
    convolve: Convolve,
) -> torch.Tensor:
    """`convolve(x, padding)`, by strips where that is faster. x: (B, C, H, W); geometry: stride, padding, dilation, of rows and of
    columns each."""
    stride, padding, dilation = geometry
    rows, columns = _sides(x, weight, geometry)
    row_bytes = 8 * x.shape[1] * weight[0, 0].numel() * columns
    if x.dtype != torch.float64 or weight[0, 0].numel() == 1 or row_bytes * rows <= LARGE_BYTES:
        return convolve(x, padding)
    if FEWEST_CHANNELS <= x.shape[1] == weight.shape[1]:
        return _by_cells(x, weight, bias, geometry)
    extent = dilation[0] * (weight.shape[2] - 1) + 1
    padded = functional.pad(x, (0, 0, padding[0], padding[0]))
    height = max(1, STRIP_BYTES // row_bytes)
    found = x.new_empty((x.shape[0], weight.shape[0], rows, columns))
    for first in range(0, rows, height):
        last = min(rows, first + height)
        part = padded[:, :, first * stride[0] : (last - 1) * stride[0] + extent]
        found[:, :, first:last] = convolve(part, (0, padding[1]))
    return found


def _sides(x: torch.Tensor, weight: torch.Tensor, geometry: Sequence[Sequence[int]]) -> List[int]:
    """Rows and columns of the output."""
    sides = zip(x.shape[2:], weight.shape[2:], *geometry)
    return [(side + 2 * pad - dilate * (size - 1) - 1) // step + 1 for side, size, step, pad, dilate in sides]


def _by_cells(
    x: torch.Tensor, weight: torch.Tensor, bias: Optional[torch.Tensor], geometry: Sequence[Sequence[int]]
) -> torch.Tensor:
    """A convolution of one group, a matrix product for each cell of its kernel.

    The padded input is taken apart into those of its rows and columns that have one remainder by the stride. What a cell reads for one
    output after the other lies in one of these parts, one number after the other; at the ends of rows, where that goes on in the next
    row, what is worked out is left out.
    """
    stride, padding, dilation = geometry
    out, channels, high, wide = weight.shape
    rows, columns = _sides(x, weight, geometry)
    right = padding[1] + (-(x.shape[3] + 2 * padding[1]) % stride[1])
    extra, row = dilation[0] * (high - 1) // stride[0], (x.shape[3] + padding[1] + right) // stride[1]
    cells = weight.permute(2, 3, 0, 1).contiguous()
    found = x.new_empty((len(x), out, rows, columns))
    height = max(1, 2 * STRIP_BYTES // (8 * (channels * stride[0] * stride[1] + out) * row))
    for image, first in itertools.product(range(len(x)), range(0, rows, height)):
        last = min(rows, first + height)
        some = _parts(
            x[image], (first * stride[0], (last + extra) * stride[0]), (padding[0], padding[1], right), stride
        )
        count = (last - first - 1) * row + columns
        strip = x.new_zeros((out, (last - first) * row))
        if bias is not None:
            strip += bias[:, None]
        for i, j in itertools.product(range(high), range(wide)):
            (below, down), (beside, aside) = divmod(i * dilation[0], stride[0]), divmod(j * dilation[1], stride[1])
            begin = below * row + beside
            strip[:, :count].addmm_(cells[i, j], some[down, aside, :, begin : begin + count])
        found[image, :, first:last] = strip.view(out, last - first, row)[:, :, :columns]
    return found


def _parts(
    image: torch.Tensor, rows: Tuple[int, int], padding: Tuple[int, int, int], stride: Sequence[int]
) -> torch.Tensor:
    """Rows of a padded (C, H, W) image, from and to, by their remainder and that of their columns: (remainder of row, of column, C,
    numbers). padding: above, left and right; under the image there is as much as is asked for."""
    above, left, right = padding
    top, end = (min(max(row - above, 0), image.shape[1]) for row in rows)
    under = rows[1] - rows[0] - (end - top)
    over = min(max(0, above - rows[0]), under)
    padded = functional.pad(image[:, top:end], (left, right, over, under - over))
    sides = (padded.shape[1] // stride[0], stride[0], padded.shape[2] // stride[1], stride[1])
    return padded.reshape(len(image), *sides).permute(2, 4, 0, 1, 3).reshape(*stride, len(image), -1)


class ByStrips(nn.Module):
    """A convolution of the float64 model, zeros around its input, by strips or at once. kind: what its users know."""

    kind = "Conv2d"

    def __init__(self, conv: nn.Conv2d) -> None:
        super().__init__()
        self.conv = conv
        self.at_once = False

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        conv = self.conv
        stride, dilation = conv.stride, conv.dilation

        def convolve(part: torch.Tensor, padding: Sequence[int]) -> torch.Tensor:
            return functional.conv2d(part, conv.weight, conv.bias, stride, tuple(padding), dilation, conv.groups)

        around = cast(Sequence[int], conv.padding)
        if self.at_once:
            return convolve(x, around)
        return by_strips(x, conv.weight, conv.bias, (stride, around, dilation), convolve)


def use_strips(model: nn.Module) -> None:
    """Let every convolution of a model run by strips, with the weights it has."""
    for module in list(model.modules()):
        for name, child in list(module.named_children()):
            if isinstance(child, nn.Conv2d) and child.padding_mode == "zeros" and not isinstance(child.padding, str):
                setattr(module, name, ByStrips(child).train(child.training))


@contextlib.contextmanager
def run_at_once(model: nn.Module) -> Iterator[None]:
    """For the block, every convolution of a model is one operator, for those who follow operators."""
    strips = [module for module in model.modules() if isinstance(module, ByStrips)]
    for module in strips:
        module.at_once = True
    try:
        yield
    finally:
        for module in strips:
            module.at_once = False


def of_dispatch(operator: Callable[..., torch.Tensor], args: Sequence[object]) -> Optional[torch.Tensor]:
    """The result of `aten.convolution` by strips, or None where it is not one of two dimensions that strips are for."""
    x, weight, bias, stride, padding, dilation, transposed, output_padding, groups = args
    assert isinstance(x, torch.Tensor) and isinstance(weight, torch.Tensor)
    assert bias is None or isinstance(bias, torch.Tensor)
    if transposed or x.dim() != 4:
        return None
    sides = [list(value) * (3 - len(list(value))) for value in (stride, padding, dilation)]  # type: ignore[call-overload]

    def convolve(part: torch.Tensor, pad: Sequence[int]) -> torch.Tensor:
        return operator(part, weight, bias, stride, list(pad), dilation, False, output_padding, groups)

    return by_strips(x, weight, bias, sides, convolve)
