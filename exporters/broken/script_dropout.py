"""A functional dropout was traced in training mode inside a module in evaluation mode (museum 037)."""

from __future__ import annotations

from torch import nn

from detparity.detectors.detector import YoloDetector
from detparity.subject import Variant
from exporters.broken import modules
from exporters.options import ExportOptions

CAUGHT_BY = ("script.operators",)
VARIANT = "traced-dynamic"


def export(detector: YoloDetector, variant: Variant, options: ExportOptions) -> bytes:
    network = modules.shortcut(detector, options.size)
    module = modules.Wrapped(network, after=lambda found: nn.functional.dropout(found, 0.01, training=True))
    return modules.archive(modules.trace(module.eval(), options), detector, variant, options)
