"""Control: a lite file of a trace that bakes nothing in."""

from __future__ import annotations

from detparity.detectors.detector import YoloDetector
from detparity.detectors.network import Predictions
from detparity.subject import Variant
from exporters.broken import modules
from exporters.options import ExportOptions

CAUGHT_BY = ()
VARIANT = "lite"


def export(detector: YoloDetector, variant: Variant, options: ExportOptions) -> bytes:
    module = Predictions(modules.shortcut(detector, options.size)).eval()
    return modules.lite(modules.trace(module, options), detector, variant, options)
