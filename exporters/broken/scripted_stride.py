"""One level of the scripted decode has the stride of another (museum 050)."""

from __future__ import annotations

from detparity.compat import jit
from detparity.detectors.detector import YoloDetector
from detparity.detectors.network import Predictions
from detparity.subject import Variant
from exporters.broken import modules
from exporters.options import ExportOptions

CAUGHT_BY = ("parity.declared", "parity.sizes")
UNSEEN_BY = ("script.weights", "script.structure")
VARIANT = "scripted"
SAYS = "xy at stride 16"


def export(detector: YoloDetector, variant: Variant, options: ExportOptions) -> bytes:
    module = Predictions(modules.network_of(detector))
    module.network.levels[1].stride = 8.0  # type: ignore[assignment]
    return modules.archive(jit.script(module.eval()), detector, variant, options)
