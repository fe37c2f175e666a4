"""Control: a lite file optimised for mobile, its weights packed away."""

from __future__ import annotations

from detparity.compat import jit
from detparity.detectors.detector import YoloDetector
from detparity.detectors.network import Predictions
from detparity.subject import Variant
from exporters.broken import modules
from exporters.options import ExportOptions

CAUGHT_BY = ()
VARIANT = "lite"
WHERE = {"torch": "<2.13"}


def export(detector: YoloDetector, variant: Variant, options: ExportOptions) -> bytes:
    module = jit.for_mobile(jit.script(Predictions(detector.network).eval()))
    return modules.lite(module, detector, variant, options)
