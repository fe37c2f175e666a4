"""The grid ends where the export's did: cells beyond it get the last one's place (museum 010, every image has the example's size)."""

from __future__ import annotations

import torch
from torch import Tensor

from detparity.detectors.detector import YoloDetector
from detparity.detectors.network import Level
from detparity.subject import Variant
from exporters.broken import modules
from exporters.options import ExportOptions, to_onnx

CAUGHT_BY = ("parity.sizes",)
UNSEEN_BY = ("parity.declared",)
VARIANT = "grid-dynamic"


def export(detector: YoloDetector, variant: Variant, options: ExportOptions) -> bytes:
    def clamped(level: Level, raw: Tensor) -> Tensor:
        return torch.clamp(level.grid(raw), max=max(options.size) / level.stride - 1)

    return to_onnx(detector, variant, options, modules.Regridded(modules.network_of(detector), clamped).eval())
