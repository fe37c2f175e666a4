"""The ONNX files of `export --half`: the network in float16, with inputs, outputs, decode and suppression in float32."""

from __future__ import annotations

from dataclasses import replace

from detparity.core.precision import FLOAT16
from detparity.core.vocabulary import Variant
from detparity.models.yolov7.detector import YoloDetector

from . import end2end_ort, onnx_grid
from .options import ExportOptions

PROMISE = {f"{name}-half": name for name in ("grid", "end2end-ort")}
PRECISION = dict.fromkeys(PROMISE, FLOAT16)
VARIANTS = tuple(PROMISE)


def export(detector: YoloDetector, variant: Variant, options: ExportOptions) -> bytes:
    module = onnx_grid if variant.head == "grid" else end2end_ort
    return module.export(detector, variant, replace(options, half=True))
