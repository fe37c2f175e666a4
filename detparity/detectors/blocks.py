"""The blocks of the family. Attribute names are the official state-dict keys, so they are part of the checkpoint format.

Every block takes and returns (B, C, H, W). A block that reads several layers takes a list (`JoinBlock`); the network wraps
the others in `One`, because TorchScript wants a single signature for the layers of an unrolled list.
"""

from __future__ import annotations

from typing import List, Optional

import torch
from torch import Tensor, nn

from detparity.compat.activations import silu

BN_EPS = 1e-3
BN_MOMENTUM = 0.03


class Conv(nn.Module):
    """Convolution, batch-norm, activation. Fused: `bn` is gone and `conv` carries a bias."""

    def __init__(
        self,
        c1: int,
        c2: int,
        kernel: int = 1,
        stride: int = 1,
        padding: Optional[int] = None,
        groups: int = 1,
        act: Optional[nn.Module] = None,
    ) -> None:
        super().__init__()
        pad = kernel // 2 if padding is None else padding
        self.conv = nn.Conv2d(c1, c2, kernel, stride, pad, groups=groups, bias=False)
        self.bn: nn.Module = nn.BatchNorm2d(c2, eps=BN_EPS, momentum=BN_MOMENTUM)
        self.act = silu() if act is None else act

    def forward(self, x: Tensor) -> Tensor:
        return self.act(self.bn(self.conv(x)))


class MaxPool(nn.Module):
    """Max-pool under the key `m`: halving (kernel 2, stride 2) or same-size (odd kernel, stride 1)."""

    def __init__(self, kernel: int, stride: int) -> None:
        super().__init__()
        self.m = nn.MaxPool2d(kernel, stride, kernel // 2 if stride == 1 else 0)

    def forward(self, x: Tensor) -> Tensor:
        return self.m(x)


class Upsample(nn.Module):
    """Nearest-neighbour enlargement by a whole factor."""

    def __init__(self, factor: int) -> None:
        super().__init__()
        self.factor = float(factor)

    def forward(self, x: Tensor) -> Tensor:
        return nn.functional.interpolate(x, scale_factor=self.factor, mode="nearest")


class JoinBlock(nn.Module):
    """A block that reads several layers; `forward(xs: List[Tensor]) -> Tensor`."""


class Concat(JoinBlock):
    def __init__(self, dim: int = 1) -> None:
        super().__init__()
        self.dim = dim

    def forward(self, xs: List[Tensor]) -> Tensor:
        return torch.cat(xs, self.dim)


class One(nn.Module):
    """Gives a single-input block the signature of a layer."""

    def __init__(self, block: nn.Module) -> None:
        super().__init__()
        self.block = block

    def forward(self, xs: List[Tensor]) -> Tensor:
        return self.block(xs[0])


def as_layer(block: nn.Module) -> nn.Module:
    """Return `block` with the layer signature List[Tensor] -> Tensor."""
    return block if isinstance(block, JoinBlock) else One(block)


class ImplicitA(nn.Module):
    """A learned vector (1, C, 1, 1) added before the head convolution."""

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.implicit = nn.Parameter(torch.zeros(1, channels, 1, 1))


class ImplicitM(nn.Module):
    """A learned vector (1, C, 1, 1) multiplied after the head convolution."""

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.implicit = nn.Parameter(torch.ones(1, channels, 1, 1))
