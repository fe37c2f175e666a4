"""The head of this family in a module of somebody else's code, such as the official one under capture."""

from __future__ import annotations

from typing import Any, Tuple

import torch
from torch import nn

Anchors = Tuple[Tuple[Tuple[float, float], ...], ...]


def head_of(module: nn.Module) -> Tuple[Anchors, Tuple[float, ...]]:
    """Anchors in pixels and strides, by level; nothing where no part of the module is such a head. The official heads hold anchors in
    cells, (levels, anchors, 2), beside `anchor_grid`, which other heads have not."""
    for part in module.modules():
        anchors: Any = getattr(part, "anchors", None)
        strides: Any = getattr(part, "stride", None)
        if not (
            hasattr(part, "anchor_grid") and isinstance(anchors, torch.Tensor) and isinstance(strides, torch.Tensor)
        ):
            continue
        if anchors.dim() == 3 and anchors.shape[2] == 2 and strides.shape == anchors.shape[:1]:
            pixels = (anchors.double() * strides.double().reshape(-1, 1, 1)).tolist()
            return tuple(tuple((w, h) for w, h in level) for level in pixels), tuple(map(float, strides))
    return (), ()
