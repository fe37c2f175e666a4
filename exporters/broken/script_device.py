"""The grid is made in the trace on a device written out, so the module cannot move to another (museum 098)."""

from __future__ import annotations

import torch
from torch import Tensor

from detparity.detectors.detector import YoloDetector
from detparity.detectors.network import Level
from detparity.subject import Variant
from exporters.broken import modules
from exporters.options import ExportOptions

CAUGHT_BY = ("script.devices",)
UNSEEN_BY = ("parity.declared", "parity.sizes")
VARIANT = "traced-dynamic"


def counted(level: Level, raw: Tensor) -> Tensor:
    ny, nx = raw.shape[2], raw.shape[3]
    y = torch.arange(ny, dtype=torch.float32, device="cpu").reshape(1, 1, ny, 1, 1).expand(1, 1, ny, nx, 1)
    x = torch.arange(nx, dtype=torch.float32, device="cpu").reshape(1, 1, 1, nx, 1).expand(1, 1, ny, nx, 1)
    return torch.cat([x, y], 4)


def export(detector: YoloDetector, variant: Variant, options: ExportOptions) -> bytes:
    network = modules.shortcut(detector, options.size)
    module = modules.Regridded(network, counted)
    return modules.archive(modules.trace(module.eval(), options), detector, variant, options)
