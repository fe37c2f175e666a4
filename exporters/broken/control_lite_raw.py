"""Control: a lite file of the logits, whose head is read from what it returns."""

from __future__ import annotations

from detparity.compat import jit
from detparity.detectors.detector import YoloDetector
from detparity.subject import Variant
from exporters.broken import modules
from exporters.options import ExportOptions

CAUGHT_BY = ()
VARIANT = "lite"
HEAD = "raw"


def export(detector: YoloDetector, variant: Variant, options: ExportOptions) -> bytes:
    return modules.lite(jit.script(detector.network), detector, variant, options)
