# mypy: disable-error-code="operator"
"""The scripted module holds the grids of one size as an attribute (museum 001 and 097)."""

from __future__ import annotations

from typing import List

import torch
from torch import Tensor

from detparity.compat import jit
from detparity.detectors.detector import YoloDetector
from detparity.detectors.network import Network, Predictions
from detparity.subject import Size, Variant
from exporters.broken import modules
from exporters.options import ExportOptions

CAUGHT_BY = ("script.baked-size", "parity.sizes")
UNSEEN_BY = ("parity.declared", "parity.batches")
VARIANT = "scripted"
SAYS = "grids[0] 1x1x32x40x2 32x40 256x320"


class Holding(Predictions):
    def __init__(self, network: Network, size: Size) -> None:
        super().__init__(network)
        sides = [(int(size[0] // level.stride), int(size[1] // level.stride)) for level in network.levels]
        self.grids: List[Tensor] = [
            network.levels[0].grid(torch.ones(1, 1, ny, nx, 1))  # type: ignore[misc]
            for ny, nx in sides
        ]

    def decode(self, raw: List[Tensor]) -> Tensor:
        rows: List[Tensor] = []
        for k, level in enumerate(self.network.levels):
            rows.append(level.decode(raw[k], self.grids[k]))
        return torch.cat(rows, 1)


def export(detector: YoloDetector, variant: Variant, options: ExportOptions) -> bytes:
    module = Holding(modules.shortcut(detector, options.size), options.size)
    return modules.archive(jit.script(module.eval()), detector, variant, options)
