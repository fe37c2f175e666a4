# mypy: disable-error-code="operator, call-overload"
"""The scripted decode views the logits by rows and columns that were set when the module was made (museum 097)."""

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
UNSEEN_BY = ("parity.declared",)
VARIANT = "scripted"
SAYS = "aten::view -1, 3, 32, 40, 10 the 32x40 cells of stride 8 at 256x320"


class Counted(Predictions):
    def __init__(self, network: Network, size: Size) -> None:
        super().__init__(network)
        self.cells = [(int(size[0] // level.stride), int(size[1] // level.stride)) for level in network.levels]

    def decode(self, raw: List[Tensor]) -> Tensor:
        rows: List[Tensor] = []
        for k, level in enumerate(self.network.levels):
            ny, nx = self.cells[k]
            logits = raw[k].view(-1, level.na, ny, nx, level.fields)
            rows.append(level.decode(logits, level.grid(logits)))
        return torch.cat(rows, 1)


def export(detector: YoloDetector, variant: Variant, options: ExportOptions) -> bytes:
    module = Counted(modules.shortcut(detector, options.size), options.size)
    return modules.archive(jit.script(module.eval()), detector, variant, options)
