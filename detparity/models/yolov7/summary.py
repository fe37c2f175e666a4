"""What the known architectures are, in numbers, without making their weights where torch can do without."""

from __future__ import annotations

import contextlib
from dataclasses import dataclass
from typing import ContextManager, Tuple

import torch

from detparity.core import environment
from detparity.models.yolov7.architectures import plan
from detparity.models.yolov7.plan import build


@dataclass(frozen=True)
class Listed:
    """parameters: of the model as trained, at its own width and 80 classes; strides: pixels per cell, level by level; side: the
    image size in pixels it is made for; layers: as its table counts them, the head included."""

    name: str
    head: str
    layers: int
    parameters: int
    strides: Tuple[int, ...]
    side: int

    @property
    def megabytes(self) -> float:
        """Of a stripped checkpoint: two bytes a parameter."""
        return 2 * self.parameters / 1e6


def listed(name: str) -> Listed:
    """Raises InputError for an unknown name."""
    drawn = plan(name)
    # Before torch 2.0 the weights are really made: up to a second or two for the largest.
    meta = environment.holds({"torch": ">=2.0"}, environment.environment())
    on_device: ContextManager[object] = torch.device("meta") if meta else contextlib.nullcontext()
    with on_device:
        network = build(drawn, 80)
    strides = tuple(drawn.strides[tap] for tap in drawn.taps)
    parameters = sum(parameter.numel() for parameter in network.parameters())
    return Listed(name, drawn.head, len(drawn.steps) + 1, parameters, strides, 20 * max(strides))
