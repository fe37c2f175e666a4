"""The grid of the export's size is a constant in a file that promises every size (museum 001)."""

from __future__ import annotations

from detparity.detectors.detector import YoloDetector
from detparity.detectors.network import FixedPredictions
from detparity.subject import Variant
from exporters.options import ExportOptions, to_onnx

CAUGHT_BY = ("structure.baked-size", "parity.sizes")
UNSEEN_BY = ("parity.declared",)
VARIANT = "grid-dynamic"
SAYS = "the grid of 256x320 baked in"


def export(detector: YoloDetector, variant: Variant, options: ExportOptions) -> bytes:
    return to_onnx(detector, variant, options, FixedPredictions(detector.network, options.size).eval())
