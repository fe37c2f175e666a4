"""Control: a frozen archive, its parameters folded into constants (museum 101)."""

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
    traced = modules.trace(Predictions(detector.network).eval(), options)
    return modules.archive(jit.freeze(traced), detector, variant, options)
