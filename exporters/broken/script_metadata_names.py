"""The class names that travel with the archive stand in another order (museum 034)."""

from __future__ import annotations

import json

from detparity.detectors.detector import YoloDetector
from detparity.detectors.network import Predictions
from detparity.subject import Variant
from exporters.broken import modules
from exporters.options import ExportOptions

CAUGHT_BY = ("script.metadata",)
VARIANT = "traced-dynamic"
SAYS = "names[0]"


def export(detector: YoloDetector, variant: Variant, options: ExportOptions) -> bytes:
    names = json.dumps(list(reversed(detector.facts.names)))
    module = Predictions(modules.shortcut(detector, options.size))
    return modules.archive(modules.trace(module.eval(), options), detector, variant, options, names=names)
