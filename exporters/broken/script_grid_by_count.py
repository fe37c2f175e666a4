# mypy: disable-error-code="operator"
"""A scripted module makes its grid anew only when the number of cells changes, so that a turned image meets the grid of the last one
(museum 099; issue 2, state left from one call to the next)."""

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

CAUGHT_BY = ("parity.sequence",)
UNSEEN_BY = ("parity.declared",)
VARIANT = "traced-dynamic"


class Counting(Predictions):
    def __init__(self, network: Network) -> None:
        super().__init__(network)
        self.grids = [torch.zeros(0) for _ in network.levels]

    def decode(self, raw: List[Tensor]) -> Tensor:
        rows: List[Tensor] = []
        for k, level in enumerate(self.network.levels):
            if self.grids[k].numel() != 2 * raw[k].shape[2] * raw[k].shape[3]:
                self.grids[k] = level.grid(raw[k])
            rows.append(level.decode(raw[k], self.grids[k].reshape(1, 1, raw[k].shape[2], raw[k].shape[3], 2)))
        return torch.cat(rows, 1)


def export(detector: YoloDetector, variant: Variant, options: ExportOptions) -> bytes:
    return modules.archive(
        jit.script(Counting(modules.shortcut(detector, options.size)).eval()), detector, variant, options
    )
