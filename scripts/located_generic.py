"""A module of no package, with operators that detectors seldom have: what `located.py` calls the generic model."""

from __future__ import annotations

from typing import Tuple

import torch
from torch import Tensor, nn
from torch.nn import functional


class Attention(nn.Module):
    def __init__(self, width: int, heads: int) -> None:
        super().__init__()
        self.heads = heads
        self.norm = nn.LayerNorm(width)
        self.qkv, self.out = nn.Linear(width, 3 * width), nn.Linear(width, width)

    def forward(self, x: Tensor) -> Tensor:
        batch, count, width = x.shape
        q, k, v = (
            self.qkv(self.norm(x)).reshape(batch, count, 3, self.heads, width // self.heads).permute(2, 0, 3, 1, 4)
        )
        weights = (q @ k.transpose(-1, -2) / (width // self.heads) ** 0.5).softmax(-1)
        return x + self.out((weights @ v).transpose(1, 2).reshape(batch, count, width))


class Squeeze(nn.Module):
    """Channels weighted by their means."""

    def __init__(self, width: int) -> None:
        super().__init__()
        self.down, self.up = nn.Conv2d(width, width // 4, 1), nn.Conv2d(width // 4, width, 1)

    def forward(self, x: Tensor) -> Tensor:
        return x * functional.hardsigmoid(self.up(functional.relu(self.down(x.mean((2, 3), keepdim=True)))))


class Block(nn.Module):
    def __init__(self, width: int) -> None:
        super().__init__()
        self.depth = nn.Conv2d(width, width, 3, 1, 1, groups=width, bias=False)
        self.norm = nn.GroupNorm(4, width)
        self.wide, self.narrow = nn.Conv2d(width, 2 * width, 1), nn.Conv2d(2 * width, width, 1)
        self.squeeze = Squeeze(width)

    def forward(self, x: Tensor) -> Tensor:
        y = self.narrow(functional.gelu(self.wide(self.norm(self.depth(x)))))
        return x + self.squeeze(y)


class Generic(nn.Module):
    """(1, 3, 128, 160) to boxes and scores of 80 cells, and a map of half the picture's size."""

    def __init__(self) -> None:
        super().__init__()
        self.stem = nn.Sequential(nn.Conv2d(3, 16, 4, 4), nn.BatchNorm2d(16), nn.Mish())
        self.stage = nn.Sequential(Block(16), Block(16), nn.AvgPool2d(3, 2, 1), nn.Conv2d(16, 32, 1), Block(32))
        self.deep = nn.Sequential(nn.Conv2d(32, 48, 3, 2, 1), nn.BatchNorm2d(48), nn.Hardswish(), nn.PReLU(48))
        self.attention = nn.Sequential(Attention(48, 4), Attention(48, 4))
        self.up = nn.ConvTranspose2d(48, 32, 2, 2)
        self.mask = nn.Conv2d(64, 4, 3, 1, 1)
        self.boxes, self.scores = nn.Linear(48, 4), nn.Linear(48, 7)

    def forward(self, x: Tensor) -> Tuple[Tensor, Tensor, Tensor]:
        x = self.stage(self.stem(x))
        y = self.deep(x)
        rows = self.attention(y.flatten(2).transpose(1, 2))
        z = rows.transpose(1, 2).reshape(y.shape)
        joined = torch.cat([functional.elu(self.up(z)), x], 1)
        mask = functional.interpolate(self.mask(joined), scale_factor=4.0, mode="bilinear", align_corners=False)
        return self.boxes(rows).exp() * 8, self.scores(rows).softmax(-1), mask.tanh()


def make() -> Tuple[nn.Module, Tuple[int, ...]]:
    torch.manual_seed(5)
    return Generic(), (1, 3, 128, 160)
