"""The grid is counted in the trace up to the columns and rows of one size (museum 097)."""

from __future__ import annotations

import torch
from torch import Tensor

from detparity.detectors.detector import YoloDetector
from detparity.detectors.network import Level
from detparity.subject import Variant
from exporters.broken import modules
from exporters.options import ExportOptions

CAUGHT_BY = ("script.baked-size", "parity.sizes")
UNSEEN_BY = ("parity.declared",)
VARIANT = "traced-dynamic"
SAYS = "aten::arange 40 the width of 256x320 in cells of stride 8"


def counted(level: Level, raw: Tensor) -> Tensor:
    y = torch.arange(int(raw.shape[2]), dtype=torch.float32).reshape(1, 1, -1, 1, 1)
    x = torch.arange(int(raw.shape[3]), dtype=torch.float32).reshape(1, 1, 1, -1, 1)
    return torch.cat([x + 0 * y, y + 0 * x], 4)


def export(detector: YoloDetector, variant: Variant, options: ExportOptions) -> bytes:
    module = modules.Regridded(modules.shortcut(detector, options.size), counted)
    with modules.traced_numbers():
        return modules.archive(modules.trace(module.eval(), options), detector, variant, options)
