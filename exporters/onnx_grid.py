"""ONNX with decoded predictions. Where the image size is fixed the grid is a constant; where it varies the graph computes it."""

from __future__ import annotations

from detparity.core.vocabulary import Variant
from detparity.models.yolov7.detector import YoloDetector
from detparity.models.yolov7.network import FixedPredictions, Predictions

from .options import ExportOptions, to_onnx

VARIANTS = ("grid", "grid-dynamic-batch", "grid-dynamic")


def export(detector: YoloDetector, variant: Variant, options: ExportOptions) -> bytes:
    network = detector.network
    module = Predictions(network) if variant.dynamic_size else FixedPredictions(network, options.size)
    return to_onnx(detector, variant, options, module.eval())
