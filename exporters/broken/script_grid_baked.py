"""The trace was made with the grid of one size already in the cache (museum 097)."""

from __future__ import annotations

from detparity.detectors.detector import YoloDetector
from detparity.detectors.network import FixedPredictions
from detparity.subject import Variant
from exporters.broken import modules
from exporters.options import ExportOptions

CAUGHT_BY = ("script.baked-size", "parity.sizes")
UNSEEN_BY = ("parity.declared",)
VARIANT = "traced-dynamic"
SAYS = "the grid of 256x320 frozen into the trace"


def export(detector: YoloDetector, variant: Variant, options: ExportOptions) -> bytes:
    module = FixedPredictions(modules.shortcut(detector, options.size), options.size)
    return modules.archive(modules.trace(module.eval(), options), detector, variant, options)
