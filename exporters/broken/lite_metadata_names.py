"""The class names that travel with the lite file stand in another order (museum 034)."""

from __future__ import annotations

import json

from detparity.compat import jit
from detparity.detectors.detector import YoloDetector
from detparity.detectors.network import Predictions
from detparity.subject import Variant
from exporters.broken import modules
from exporters.options import ExportOptions

CAUGHT_BY = ("script.metadata",)
VARIANT = "lite"
SAYS = "names[0]"


def export(detector: YoloDetector, variant: Variant, options: ExportOptions) -> bytes:
    names = json.dumps(list(reversed(detector.facts.names)))
    module = Predictions(modules.shortcut(detector, options.size)).eval()
    return modules.lite(jit.script(module), detector, variant, options, names=names)
