"""Control: a scripted archive that was frozen, its parameters folded into constants."""

from __future__ import annotations

from detparity.compat import jit
from detparity.detectors.detector import YoloDetector
from detparity.detectors.network import Predictions
from detparity.subject import Variant
from exporters.broken import modules
from exporters.options import ExportOptions

CAUGHT_BY = ()
VARIANT = "scripted"


def export(detector: YoloDetector, variant: Variant, options: ExportOptions) -> bytes:
    module = jit.script(Predictions(detector.network).eval())
    return modules.archive(jit.freeze(module), detector, variant, options)
