"""The grid is made for (nx, ny) cells and reshaped to (ny, nx): right on a square, wrong elsewhere (issue 2; museum 012)."""

from __future__ import annotations

from torch import Tensor

from detparity.detectors.detector import YoloDetector
from detparity.detectors.network import Level
from detparity.subject import Variant
from exporters.broken import modules
from exporters.options import ExportOptions, to_onnx

CAUGHT_BY = ("parity.sizes", "parity.threads")
UNSEEN_BY = ("parity.declared",)
VARIANT = "grid-dynamic"
SIZE = (192, 192)


def swapped(level: Level, raw: Tensor) -> Tensor:
    return level.grid(raw.transpose(2, 3)).reshape(1, 1, raw.shape[2], raw.shape[3], 2)


def export(detector: YoloDetector, variant: Variant, options: ExportOptions) -> bytes:
    return to_onnx(detector, variant, options, modules.Regridded(modules.network_of(detector), swapped).eval())
