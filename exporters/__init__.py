"""The exporters under test: one thin file per target, listed here.

To add one, write `exporters/NAME.py` with `VARIANTS` and `export(detector, variant, options) -> bytes`, and name it in `MODULES`.
"""

from __future__ import annotations

import importlib
from typing import Any, Dict, Protocol, Tuple

from detparity.core.vocabulary import Variant
from detparity.models.yolov7.detector import YoloDetector

from .options import ExportOptions as ExportOptions

MODULES = (
    *("onnx_raw", "onnx_grid", "onnx_dynamo", "end2end_ort", "end2end_trt", "end2end_trt_nms"),
    *("traced", "scripted", "lite", "lite_mobile", "half", "traced_half", "int8"),
)


CONVERTERS = (
    "openvino",
    "ncnn",
    "litert",
)  # of an ONNX file; each has FOLDER, an ending, and convert(onnx, folder, size, half)


class Exporter(Protocol):
    """A module that makes files. VARIANTS: names of the variants it can make; where a variant has its exporter already, a name
    for the second one, and the variant of that name in `PROMISE`. A precision below float32 is promised by name in `PRECISION`."""

    VARIANTS: Tuple[str, ...]

    def export(self, detector: YoloDetector, variant: Variant, options: ExportOptions) -> bytes:
        """Return the complete file. Any failure raises; the detector is left unchanged."""


def converter(name: str) -> Any:
    """A module of `CONVERTERS`."""
    return importlib.import_module(f"{__name__}.{name}")


def registry() -> Dict[str, Exporter]:
    """Every exporter by the name of the variant it makes, or its own name for one."""
    found: Dict[str, Exporter] = {}
    for name in MODULES:
        module = importlib.import_module(f"{__name__}.{name}")
        for variant in module.VARIANTS:
            found[variant] = module
    return found
