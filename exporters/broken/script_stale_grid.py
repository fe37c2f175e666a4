# mypy: disable-error-code="operator"
"""A scripted module keeps the grid of its first call (museum 099 and 097)."""

from __future__ import annotations

from typing import List

import torch
from torch import Tensor

from detparity.compat import jit
from detparity.detectors.detector import YoloDetector
from detparity.detectors.network import Network, Predictions
from detparity.subject import Variant
from exporters.broken import modules
from exporters.options import ExportOptions

CAUGHT_BY = ("parity.sequence", "parity.sizes")
UNSEEN_BY = ("parity.declared", "script.baked-size")
VARIANT = "traced-dynamic"


class Keeping(Predictions):
    def __init__(self, network: Network) -> None:
        super().__init__(network)
        self.grids = [torch.zeros(0) for _ in network.levels]

    def decode(self, raw: List[Tensor]) -> Tensor:
        rows: List[Tensor] = []
        for k, level in enumerate(self.network.levels):
            if self.grids[k].numel() == 0:
                self.grids[k] = level.grid(raw[k])
            rows.append(level.decode(raw[k], self.grids[k]))
        return torch.cat(rows, 1)


def export(detector: YoloDetector, variant: Variant, options: ExportOptions) -> bytes:
    return modules.archive(
        jit.script(Keeping(modules.shortcut(detector, options.size)).eval()), detector, variant, options
    )
