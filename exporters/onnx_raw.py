"""ONNX with the logits of each level: no decode in the graph."""

from __future__ import annotations

from detparity.detectors.detector import YoloDetector
from detparity.detectors.network import RawTuple
from detparity.subject import Variant
from exporters.options import ExportOptions, to_onnx

VARIANTS = ("raw", "raw-dynamic-batch", "raw-dynamic")


def export(detector: YoloDetector, variant: Variant, options: ExportOptions) -> bytes:
    return to_onnx(detector, variant, options, RawTuple(detector.network).eval())
