"""The logits of the levels were exported where decoded predictions were asked for (museum 026)."""

from __future__ import annotations

from detparity.detectors.detector import YoloDetector
from detparity.subject import Variant
from exporters import onnx_raw
from exporters.options import ExportOptions

CAUGHT_BY = ("structure.outputs", "structure.axes", "structure.shapes", "parity.declared")
VARIANT = "grid"


def export(detector: YoloDetector, variant: Variant, options: ExportOptions) -> bytes:
    return onnx_raw.export(detector, Variant("raw", variant.axes), options)
