"""The grid has rows for columns and columns for rows (issue 2; museum 012, invisible near the diagonal of a square)."""

from __future__ import annotations

from detparity.detectors.detector import YoloDetector
from detparity.subject import Variant
from exporters.broken import modules
from exporters.options import ExportOptions, to_onnx

CAUGHT_BY = ("parity.declared",)
VARIANT = "grid-dynamic"
SAYS = "the grid is transposed"


def export(detector: YoloDetector, variant: Variant, options: ExportOptions) -> bytes:
    module = modules.Regridded(modules.network_of(detector), lambda level, raw: level.grid(raw).flip(4))
    return to_onnx(detector, variant, options, module.eval())
