"""The detector was scripted in training mode (museum 037)."""

from __future__ import annotations

from detparity.compat import jit
from detparity.detectors.detector import YoloDetector
from detparity.detectors.network import Predictions
from detparity.subject import Variant
from exporters.broken import modules
from exporters.options import ExportOptions

CAUGHT_BY = ("script.operators",)
UNSEEN_BY = ("parity.declared",)
VARIANT = "scripted"
SAYS = "saved in training mode"


def export(detector: YoloDetector, variant: Variant, options: ExportOptions) -> bytes:
    module = Predictions(modules.network_of(detector)).train()
    return modules.archive(jit.script(module), detector, variant, options)
