"""ONNX with the logits of each level: no decode in the graph."""

from __future__ import annotations

from detparity.core.vocabulary import Variant
from detparity.models.yolov7.detector import YoloDetector
from detparity.models.yolov7.network import RawTuple

from .options import ExportOptions, to_onnx

VARIANTS = ("raw", "raw-dynamic-batch", "raw-dynamic")


def export(detector: YoloDetector, variant: Variant, options: ExportOptions) -> bytes:
    return to_onnx(detector, variant, options, RawTuple(detector.network).eval())
