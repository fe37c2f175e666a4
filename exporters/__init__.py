"""The exporters under test: one thin file per target, listed here.

To add one, write `exporters/NAME.py` with `VARIANTS` and `export(detector, variant, options) -> bytes`, and name it in `MODULES`.
"""

from __future__ import annotations

import importlib
from typing import Dict, Protocol, Tuple

from detparity.core.vocabulary import Variant
from detparity.models.yolov7.detector import YoloDetector

from .options import ExportOptions

MODULES = (
    *("onnx_raw", "onnx_grid", "onnx_dynamo", "end2end_ort", "end2end_trt", "end2end_trt_nms"),
    *("traced", "scripted", "lite", "lite_mobile"),
)


class Exporter(Protocol):
    """A module that makes files. VARIANTS: names of the variants it can make; where it is another way to a variant that has its
    exporter already, a name for that way, and the variant in `PROMISE`."""

    VARIANTS: Tuple[str, ...]

    def export(self, detector: YoloDetector, variant: Variant, options: ExportOptions) -> bytes:
        """Return the whole file. Any failure raises; the detector is left as it was."""


def registry() -> Dict[str, Exporter]:
    """Every exporter by the name of the variant it makes, or of its way to one."""
    found: Dict[str, Exporter] = {}
    for name in MODULES:
        module = importlib.import_module(f"{__name__}.{name}")
        for variant in module.VARIANTS:
            found[variant] = module
    return found
