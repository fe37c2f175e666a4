"""One leaky activation of the lite file has the slope 0.11 where the model has 0.1 (issue 2)."""

from __future__ import annotations

from detparity.compat import jit
from detparity.detectors.detector import YoloDetector
from detparity.detectors.network import Predictions
from detparity.subject import Variant
from exporters.broken import modules
from exporters.options import ExportOptions

CAUGHT_BY = ("script.attributes", "parity.declared")
VARIANT = "lite"
SAYS = "slope"


def export(detector: YoloDetector, variant: Variant, options: ExportOptions) -> bytes:
    network = modules.network_of(detector)
    network.model[14].block.act.negative_slope = 0.11
    return modules.lite(jit.script(Predictions(network).eval()), detector, variant, options)
