"""Stand-ins for the blocks of official YOLOv5 checkpoints that the family's own tables do not have; see `standins.py`."""

from __future__ import annotations

import math
from typing import Optional, Sequence

import torch
from detparity.kit.tests.models.yolov7 import standins
from detparity.kit.tests.models.yolov7.standins import SPP, Bottleneck, Conv, Detect
from torch import Tensor, nn


class _Block(nn.Module):
    def __init_subclass__(cls) -> None:
        cls.__module__ = "models.common"


class DWConv(Conv):
    def __init__(self, c1: int, c2: int, k: int = 1, s: int = 1, act: Optional[bool] = None) -> None:
        super().__init__(c1, c2, k, s, g=math.gcd(c1, c2))
        if act is False:
            self.act = nn.Identity()


class Focus(_Block):
    def __init__(self, c1: int, c2: int, k: int = 1, s: int = 1, p: None = None, g: int = 1, act: None = None) -> None:
        super().__init__()
        self.conv = Conv(4 * c1, c2, k, s)

    def forward(self, x: Tensor) -> Tensor:
        corners = [(row, column) for column in (0, 1) for row in (0, 1)]
        return self.conv(torch.cat([x[:, :, row::2, column::2] for row, column in corners], 1))


class SPPF(_Block):
    def __init__(self, c1: int, c2: int, k: int = 5) -> None:
        super().__init__()
        self.cv1 = Conv(c1, c1 // 2)
        self.cv2 = Conv(c1 // 2 * 4, c2)
        self.m = nn.MaxPool2d(kernel_size=k, stride=1, padding=k // 2)

    def forward(self, x: Tensor) -> Tensor:
        found = [self.cv1(x)]
        for _ in range(3):
            found.append(self.m(found[-1]))
        return self.cv2(torch.cat(found, 1))


class GhostConv(_Block):
    def __init__(self, c1: int, c2: int, k: int = 1, s: int = 1, g: int = 1, act: Optional[bool] = None) -> None:
        super().__init__()
        self.cv1 = Conv(c1, c2 // 2, k, s)
        self.cv2 = Conv(c2 // 2, c2 // 2, 5, g=c2 // 2)
        if act is False:
            self.cv1.act = self.cv2.act = nn.Identity()

    def forward(self, x: Tensor) -> Tensor:
        first = self.cv1(x)
        return torch.cat((first, self.cv2(first)), 1)


class GhostBottleneck(_Block):
    def __init__(self, c1: int, c2: int, k: int = 3, s: int = 1) -> None:
        super().__init__()
        inner, side = c2 // 2, nn.Sequential(DWConv(c1, c1, k, s, False), Conv(c1, c2))
        side[1].act = nn.Identity()
        middle = DWConv(inner, inner, k, s, False) if s == 2 else nn.Identity()
        self.conv = nn.Sequential(GhostConv(c1, inner), middle, GhostConv(inner, c2, act=False))
        self.shortcut = side if s == 2 else nn.Identity()

    def forward(self, x: Tensor) -> Tensor:
        return self.shortcut(x) + self.conv(x)


class C3(_Block):
    def __init__(self, c1: int, c2: int, n: int = 1, shortcut: bool = True, g: int = 1, e: float = 0.5) -> None:
        super().__init__()
        half = c2 // 2
        self.cv1, self.cv2, self.cv3 = Conv(c1, half), Conv(c1, half), Conv(2 * half, c2)
        self.m: nn.Module = nn.Sequential(*[Bottleneck(half, half, shortcut, e=1.0) for _ in range(n)])

    def forward(self, x: Tensor) -> Tensor:
        return self.cv3(torch.cat((self.m(self.cv1(x)), self.cv2(x)), 1))


class C3Ghost(C3):
    def __init__(self, c1: int, c2: int, n: int = 1) -> None:
        super().__init__(c1, c2, n)
        self.m = nn.Sequential(*[GhostBottleneck(c2 // 2, c2 // 2) for _ in range(n)])


class C3SPP(C3):
    def __init__(self, c1: int, c2: int, k: Sequence[int] = (5, 9, 13)) -> None:
        super().__init__(c1, c2)
        self.m = SPP(c2 // 2, c2 // 2, k)


class BottleneckCSP(_Block):
    def __init__(self, c1: int, c2: int, n: int = 1, shortcut: bool = True) -> None:
        super().__init__()
        half = c2 // 2
        self.cv1, self.cv4 = Conv(c1, half), Conv(2 * half, c2)
        self.cv2, self.cv3 = nn.Conv2d(c1, half, 1, bias=False), nn.Conv2d(half, half, 1, bias=False)
        self.bn, self.act = nn.BatchNorm2d(2 * half, eps=1e-3), nn.LeakyReLU(0.1, inplace=True)
        self.m = nn.Sequential(*[Bottleneck(half, half, shortcut, e=1.0) for _ in range(n)])

    def forward(self, x: Tensor) -> Tensor:
        joined = torch.cat((self.cv3(self.m(self.cv1(x))), self.cv2(x)), 1)
        return self.cv4(self.act(self.bn(joined)))


class Segment(Detect):
    """A head that gives coefficients of masks besides; where a checkpoint has it, it is no detector."""

    __module__ = "models.yolo"


class SegmentationModel(standins.Model):
    __module__ = "models.yolo"


BLOCKS = (DWConv, Focus, SPPF, GhostConv, GhostBottleneck, C3, C3Ghost, C3SPP, BottleneckCSP)
standins.KINDS.update({kind.__name__: kind for kind in BLOCKS})
standins.MORE.extend([*BLOCKS, Segment, SegmentationModel])
