"""Control: decode and control flow are scripted, around a network that was traced."""

from __future__ import annotations

from detparity.compat import jit
from detparity.detectors.detector import YoloDetector
from detparity.detectors.network import Predictions
from detparity.subject import Variant
from exporters.broken import modules
from exporters.options import ExportOptions

CAUGHT_BY = ()
VARIANT = "traced-dynamic"


def export(detector: YoloDetector, variant: Variant, options: ExportOptions) -> bytes:
    module = Predictions(modules.shortcut(detector, options.size)).eval()
    return modules.archive(jit.script(module), detector, variant, options)
