"""The TorchScript file of `export --half`: a trace of the network in float16, with its input, its output and the decode in float32."""

from __future__ import annotations

from dataclasses import replace
from typing import Optional

import torch

from detparity.core.precision import FLOAT16
from detparity.core.vocabulary import Variant
from detparity.models.yolov7.detector import YoloDetector
from detparity.models.yolov7.network import has_half_kernels

from . import traced
from .options import ExportOptions

PROMISE = {"traced-half": "traced"}
PRECISION = dict.fromkeys(PROMISE, FLOAT16)
VARIANTS = tuple(PROMISE)


def unavailable() -> Optional[str]:
    """Why this version traces nothing in float16, or None where it does."""
    return None if has_half_kernels() else f"torch {torch.__version__} cannot convolve float16 on the CPU"


def export(detector: YoloDetector, variant: Variant, options: ExportOptions) -> bytes:
    return traced.export(detector, variant, replace(options, half=True))
