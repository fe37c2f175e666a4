"""The predictions come back in float64 (museum 082)."""

from __future__ import annotations

from detparity.detectors.detector import YoloDetector
from detparity.subject import Variant
from exporters.broken import modules
from exporters.options import ExportOptions

CAUGHT_BY = ("script.structure", "parity.declared")
VARIANT = "traced-dynamic"
SAYS = "float64"


def export(detector: YoloDetector, variant: Variant, options: ExportOptions) -> bytes:
    network = modules.shortcut(detector, options.size)
    module = modules.Wrapped(network, after=lambda found: found.double())
    return modules.archive(modules.trace(module.eval(), options), detector, variant, options)
