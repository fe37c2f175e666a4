"""Convolution in float64 by strips of the output.

torch lays out what each output number reads as one matrix (im2col) and multiplies it. In float64 that matrix is 118 MB for the
third layer of yolov7-tiny at 640x640, more than the caches hold and, at 1280x1280, more than a gigabyte. A strip of rows whose matrix
fits the caches takes its memory alone, and mostly less time (benchmarks/test_exact_conv.py). The numbers are the same up to the order
of the additions within float64.
"""

from __future__ import annotations

import contextlib
from typing import Callable, Iterator, Optional, Sequence, cast

import torch
from torch import nn
from torch.nn import functional

LARGE_BYTES = 32_000_000  # of the matrix, from which strips are faster
STRIP_BYTES = 4_000_000
Convolve = Callable[
    [torch.Tensor, Sequence[int]], torch.Tensor
]  # of a part of the input, with a padding (rows, columns)


def by_strips(
    x: torch.Tensor, weight: torch.Tensor, geometry: Sequence[Sequence[int]], convolve: Convolve
) -> torch.Tensor:
    """`convolve(x, padding)`, by strips where that is faster. x: (B, C, H, W); geometry: stride, padding, dilation, of rows and of
    columns each."""
    stride, padding, dilation = geometry
    extent = [dilate * (size - 1) + 1 for dilate, size in zip(dilation, weight.shape[2:])]
    rows, columns = (
        (side + 2 * pad - reach) // step + 1 for side, pad, reach, step in zip(x.shape[2:], padding, extent, stride)
    )
    row_bytes = 8 * x.shape[1] * weight[0, 0].numel() * columns
    if x.dtype != torch.float64 or weight[0, 0].numel() == 1 or row_bytes * rows <= LARGE_BYTES:
        return convolve(x, padding)
    padded = functional.pad(x, (0, 0, padding[0], padding[0]))
    height = max(1, STRIP_BYTES // row_bytes)
    found = x.new_empty((x.shape[0], weight.shape[0], rows, columns))
    for first in range(0, rows, height):
        last = min(rows, first + height)
        part = padded[:, :, first * stride[0] : (last - 1) * stride[0] + extent[0]]
        found[:, :, first:last] = convolve(part, (0, padding[1]))
    return found


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
        return convolve(x, around) if self.at_once else by_strips(x, conv.weight, (stride, around, dilation), convolve)


def use_strips(model: nn.Module) -> None:
    """Let every convolution of a model run by strips, with the weights it has."""
    for module in list(model.modules()):
        for name, child in list(module.named_children()):
            if isinstance(child, nn.Conv2d) and child.padding_mode == "zeros" and not isinstance(child.padding, str):
                setattr(module, name, ByStrips(child))


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
    if transposed or x.dim() != 4:
        return None
    sides = [list(value) * (3 - len(list(value))) for value in (stride, padding, dilation)]  # type: ignore[call-overload]

    def convolve(part: torch.Tensor, pad: Sequence[int]) -> torch.Tensor:
        return operator(part, weight, bias, stride, list(pad), dilation, False, output_padding, groups)

    return by_strips(x, weight, sides, convolve)
