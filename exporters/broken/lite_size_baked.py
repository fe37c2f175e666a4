"""The lite file was made of a trace with the grid of one size in it (museum 001 and 097)."""

from __future__ import annotations

from detparity.detectors.detector import YoloDetector
from detparity.detectors.network import FixedPredictions
from detparity.subject import Variant
from exporters.broken import modules
from exporters.options import ExportOptions

CAUGHT_BY = ("parity.sizes",)
UNSEEN_BY = ("parity.declared", "parity.batches")
VARIANT = "lite"


def export(detector: YoloDetector, variant: Variant, options: ExportOptions) -> bytes:
    module = FixedPredictions(modules.shortcut(detector, options.size), options.size)
    return modules.lite(modules.trace(module.eval(), options), detector, variant, options)
