"""One weight tensor of the lite file is 1% too large (issue 2)."""

from __future__ import annotations

import torch

from detparity.compat import jit
from detparity.detectors.detector import YoloDetector
from detparity.detectors.network import Predictions
from detparity.subject import Variant
from exporters.broken import modules
from exporters.options import ExportOptions

CAUGHT_BY = ("script.weights", "parity.declared")
VARIANT = "lite"
SAYS = "multiplied by 1.01"


def export(detector: YoloDetector, variant: Variant, options: ExportOptions) -> bytes:
    network = modules.network_of(detector)
    with torch.no_grad():
        network.model[14].block.conv.weight.mul_(1.01)
    return modules.lite(jit.script(Predictions(network).eval()), detector, variant, options)
