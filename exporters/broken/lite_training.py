"""The lite file was made of a module in training mode (museum 037)."""

from __future__ import annotations

from detparity.compat import jit
from detparity.detectors.detector import YoloDetector
from detparity.detectors.network import Predictions
from detparity.subject import Variant
from exporters.broken import modules
from exporters.options import ExportOptions

CAUGHT_BY = ("script.operators",)
UNSEEN_BY = ("parity.declared",)
VARIANT = "lite"
SAYS = "saved in training mode"


def export(detector: YoloDetector, variant: Variant, options: ExportOptions) -> bytes:
    return modules.lite(jit.script(Predictions(modules.network_of(detector)).train()), detector, variant, options)
