"""The blocks of the family. Attribute names are the official state-dict keys, so they are part of the checkpoint format.

Every block takes and returns (B, C, H, W). A block that reads several layers takes a list (`JoinBlock`); the network wraps
the others in `One`, because TorchScript wants a single signature for the layers of an unrolled list. A block made of blocks is
given them ready: channel counts (`block_builders`) and checkpoints (`checkpoint_loader`) each make them.
"""

from __future__ import annotations

from typing import List, Optional

import torch
from torch import Tensor, nn

from detparity.models.compat.activations import silu

BN_EPS = 1e-3
BN_MOMENTUM = 0.03


class Conv(nn.Module):
    """Convolution, batch-norm, activation. Fused: `bn` is removed and `conv` carries a bias."""

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
    """Nearest-neighbour enlargement by an integer factor."""

    def __init__(self, factor: int) -> None:
        super().__init__()
        self.factor = float(factor)

    def forward(self, x: Tensor) -> Tensor:
        return nn.functional.interpolate(x, scale_factor=self.factor, mode="nearest")


class ReOrg(nn.Module):
    """Space to depth: (B, C, H, W) to (B, 4C, H/2, W/2), the four pixels of a square in the order (0, 0), (1, 0), (0, 1), (1, 1)
    of row and column."""

    def forward(self, x: Tensor) -> Tensor:
        upper, lower = x[:, :, ::2], x[:, :, 1::2]
        return torch.cat([upper[..., ::2], lower[..., ::2], upper[..., 1::2], lower[..., 1::2]], 1)


class Focus(nn.Module):
    """Space to depth as in `ReOrg`, then a convolution."""

    def __init__(self, conv: nn.Module) -> None:
        super().__init__()
        self.conv = conv

    def forward(self, x: Tensor) -> Tensor:
        upper, lower = x[:, :, ::2], x[:, :, 1::2]
        return self.conv(torch.cat([upper[..., ::2], lower[..., ::2], upper[..., 1::2], lower[..., 1::2]], 1))


class GhostConv(nn.Module):
    """A convolution to half the channels, and a depthwise one of it for the other half."""

    def __init__(self, cv1: nn.Module, cv2: nn.Module) -> None:
        super().__init__()
        self.cv1, self.cv2 = cv1, cv2

    def forward(self, x: Tensor) -> Tensor:
        y = self.cv1(x)
        return torch.cat([y, self.cv2(y)], 1)


class GhostBottleneck(nn.Module):
    """Two ghost convolutions, between them a depthwise one where the size is halved; the input is added, halved likewise."""

    def __init__(self, conv: nn.Module, shortcut: nn.Module) -> None:
        super().__init__()
        self.conv, self.shortcut = conv, shortcut

    def forward(self, x: Tensor) -> Tensor:
        return self.conv(x) + self.shortcut(x)


class Stem(nn.Module):
    """Two halvings: convolutions on one branch, a max-pool on the other, joined."""

    def __init__(self, cv1: nn.Module, cv2: nn.Module, cv3: nn.Module, cv4: nn.Module, pool: nn.Module) -> None:
        super().__init__()
        self.cv1, self.cv2, self.cv3, self.cv4, self.pool = cv1, cv2, cv3, cv4, pool

    def forward(self, x: Tensor) -> Tensor:
        x = self.cv1(x)
        return self.cv4(torch.cat([self.cv3(self.cv2(x)), self.pool(x)], 1))


class DownC(nn.Module):
    """One halving: a strided convolution on one branch, a max-pool on the other, each giving half the channels."""

    def __init__(self, cv1: nn.Module, cv2: nn.Module, cv3: nn.Module, mp: nn.Module) -> None:
        super().__init__()
        self.cv1, self.cv2, self.cv3, self.mp = cv1, cv2, cv3, mp

    def forward(self, x: Tensor) -> Tensor:
        return torch.cat([self.cv2(self.cv1(x)), self.cv3(self.mp(x))], 1)


class SPP(nn.Module):
    """Spatial pyramid of max-pools `m`, gathered with their input."""

    def __init__(self, cv1: nn.Module, cv2: nn.Module, m: nn.ModuleList) -> None:
        super().__init__()
        self.cv1, self.cv2, self.m = cv1, cv2, m

    def forward(self, x: Tensor) -> Tensor:
        x = self.cv1(x)
        gathered = [x]
        for pool in self.m:
            gathered.append(pool(x))
        return self.cv2(torch.cat(gathered, 1))


class SPPF(nn.Module):
    """The same pyramid with one max-pool `m` applied three times."""

    def __init__(self, cv1: nn.Module, cv2: nn.Module, m: nn.Module) -> None:
        super().__init__()
        self.cv1, self.cv2, self.m = cv1, cv2, m

    def forward(self, x: Tensor) -> Tensor:
        x = self.cv1(x)
        first = self.m(x)
        second = self.m(first)
        return self.cv2(torch.cat([x, first, second, self.m(second)], 1))


class SPPCSPC(nn.Module):
    """A spatial pyramid on one branch, a single convolution on the other."""

    def __init__(
        self,
        cv1: nn.Module,
        cv2: nn.Module,
        cv3: nn.Module,
        cv4: nn.Module,
        cv5: nn.Module,
        cv6: nn.Module,
        cv7: nn.Module,
        m: nn.ModuleList,
    ) -> None:
        super().__init__()
        self.cv1, self.cv2, self.cv3, self.cv4, self.cv5, self.cv6, self.cv7, self.m = (
            cv1,
            cv2,
            cv3,
            cv4,
            cv5,
            cv6,
            cv7,
            m,
        )

    def forward(self, x: Tensor) -> Tensor:
        main = self.cv4(self.cv3(self.cv1(x)))
        gathered = [main]
        for pool in self.m:
            gathered.append(pool(main))
        return self.cv7(torch.cat([self.cv6(self.cv5(torch.cat(gathered, 1))), self.cv2(x)], 1))


class Bottleneck(nn.Module):
    """Narrow 1x1, then 3x3; `add`: the input is added."""

    def __init__(self, cv1: nn.Module, cv2: nn.Module, add: bool) -> None:
        super().__init__()
        self.cv1, self.cv2, self.add = cv1, cv2, add

    def forward(self, x: Tensor) -> Tensor:
        y = self.cv2(self.cv1(x))
        if self.add:
            y = x + y
        return y


class Res(nn.Module):
    """Narrow 1x1, 3x3, wide 1x1; `add`: the input is added."""

    def __init__(self, cv1: nn.Module, cv2: nn.Module, cv3: nn.Module, add: bool) -> None:
        super().__init__()
        self.cv1, self.cv2, self.cv3, self.add = cv1, cv2, cv3, add

    def forward(self, x: Tensor) -> Tensor:
        y = self.cv3(self.cv2(self.cv1(x)))
        if self.add:
            y = x + y
        return y


class CSPA(nn.Module):
    """Cross-stage partial, form A: `m` behind one of two branches of the input."""

    def __init__(self, cv1: nn.Module, cv2: nn.Module, cv3: nn.Module, m: nn.Module) -> None:
        super().__init__()
        self.cv1, self.cv2, self.cv3, self.m = cv1, cv2, cv3, m

    def forward(self, x: Tensor) -> Tensor:
        return self.cv3(torch.cat([self.m(self.cv1(x)), self.cv2(x)], 1))


class C3(CSPA):
    """Form A by the name that YOLOv5 gives it; `m`: narrow blocks, ghost blocks, or a pyramid of pools."""


class BottleneckCSP(nn.Module):
    """Form C before its norm moved into its convolutions: `bn` and `act` follow what both branches give, joined."""

    def __init__(
        self,
        cv1: nn.Module,
        cv2: nn.Module,
        cv3: nn.Module,
        cv4: nn.Module,
        bn: nn.Module,
        act: nn.Module,
        m: nn.Module,
    ) -> None:
        super().__init__()
        self.cv1, self.cv2, self.cv3, self.m, self.bn, self.act, self.cv4 = cv1, cv2, cv3, m, bn, act, cv4

    def forward(self, x: Tensor) -> Tensor:
        joined = torch.cat([self.cv3(self.m(self.cv1(x))), self.cv2(x)], 1)
        return self.cv4(self.act(self.bn(joined)))


class CSPB(nn.Module):
    """Cross-stage partial, form B: both branches start from the first convolution."""

    def __init__(self, cv1: nn.Module, cv2: nn.Module, cv3: nn.Module, m: nn.Module) -> None:
        super().__init__()
        self.cv1, self.cv2, self.cv3, self.m = cv1, cv2, cv3, m

    def forward(self, x: Tensor) -> Tensor:
        x = self.cv1(x)
        return self.cv3(torch.cat([self.m(x), self.cv2(x)], 1))


class CSPC(nn.Module):
    """Cross-stage partial, form C: as A, with a convolution behind `m`."""

    def __init__(self, cv1: nn.Module, cv2: nn.Module, cv3: nn.Module, cv4: nn.Module, m: nn.Module) -> None:
        super().__init__()
        self.cv1, self.cv2, self.cv3, self.cv4, self.m = cv1, cv2, cv3, cv4, m

    def forward(self, x: Tensor) -> Tensor:
        return self.cv4(torch.cat([self.cv3(self.m(self.cv1(x))), self.cv2(x)], 1))


class RepConv(nn.Module):
    """As trained: the sum of a 3x3 and a 1x1 convolution, each with its batch-norm, and of a batch-norm of the input where the
    shape stays the same; then the activation."""

    def __init__(
        self, rbr_dense: nn.Module, rbr_1x1: nn.Module, rbr_identity: Optional[nn.Module], act: nn.Module
    ) -> None:
        super().__init__()
        self.rbr_dense, self.rbr_1x1, self.act = rbr_dense, rbr_1x1, act
        self.rbr_identity = rbr_identity

    def forward(self, x: Tensor) -> Tensor:
        y = self.rbr_dense(x) + self.rbr_1x1(x)
        if self.rbr_identity is not None:
            y = y + self.rbr_identity(x)
        return self.act(y)


class FusedRepConv(nn.Module):
    """A `RepConv` whose branches have been added up into one 3x3 convolution with a bias."""

    def __init__(self, rbr_reparam: nn.Module, act: nn.Module) -> None:
        super().__init__()
        self.rbr_reparam, self.act = rbr_reparam, act

    def forward(self, x: Tensor) -> Tensor:
        return self.act(self.rbr_reparam(x))


class JoinBlock(nn.Module):
    """A block that reads several layers; `forward(xs: List[Tensor]) -> Tensor`."""


class Concat(JoinBlock):
    def __init__(self, dim: int = 1) -> None:
        super().__init__()
        self.dim = dim

    def forward(self, xs: List[Tensor]) -> Tensor:
        return torch.cat(xs, self.dim)


class Shortcut(JoinBlock):
    """The sum of two layers."""

    def forward(self, xs: List[Tensor]) -> Tensor:
        return xs[0] + xs[1]


class Unused(JoinBlock):
    """Replaces a layer that nothing reads, so that the layers after it keep their numbers."""

    def forward(self, xs: List[Tensor]) -> Tensor:
        return xs[0]


class One(JoinBlock):
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

    def forward(self, x: Tensor) -> Tensor:
        return x + self.implicit


class ImplicitM(nn.Module):
    """A learned vector (1, C, 1, 1) multiplied after the head convolution."""

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.implicit = nn.Parameter(torch.ones(1, channels, 1, 1))

    def forward(self, x: Tensor) -> Tensor:
        return x * self.implicit
