"""The files of `export --int8`: the network in 8 bits, its heads in float32, calibrated on drawn scenes that no check shows."""

from __future__ import annotations

from dataclasses import replace
from typing import Optional

import torch

from detparity.core.precision import INT8
from detparity.core.vocabulary import Variant
from detparity.inputs.scenes import scene
from detparity.models.yolov7.detector import YoloDetector

from . import end2end_ort, onnx_grid
from .low_precision import PER_CHANNEL_OPSET, to_int8
from .options import ExportOptions

PROMISE = {f"{name}-int8": name for name in ("grid", "end2end-ort")}
PRECISION = dict.fromkeys(PROMISE, INT8)
VARIANTS = tuple(PROMISE)
SCENES = range(1000, 1016)  # checks draw by seeds below these
FIRST_TORCH = (1, 8)  # the first that writes the opset with a scale for each channel


def unavailable() -> Optional[str]:
    """Why this version makes no such file, or None where it does."""
    if tuple(int(part) for part in torch.__version__.split(".")[:2]) >= FIRST_TORCH:
        return None
    return f"this torch writes no opset {PER_CHANNEL_OPSET}, the first with a scale for each channel; 1.8 is the first that does"


def export(detector: YoloDetector, variant: Variant, options: ExportOptions) -> bytes:
    module = onnx_grid if variant.head == "grid" else end2end_ort
    made = module.export(detector, variant, replace(options, opset=options.opset or PER_CHANNEL_OPSET))
    return to_int8(made, (scene(options.size, seed).image for seed in SCENES))
