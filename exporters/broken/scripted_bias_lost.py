"""One head convolution of the scripted detector lost its bias (museum 031)."""

from __future__ import annotations

import torch

from detparity.compat import jit
from detparity.detectors.detector import YoloDetector
from detparity.detectors.network import Predictions
from detparity.subject import Variant
from exporters.broken import modules
from exporters.options import ExportOptions

CAUGHT_BY = ("script.weights", "parity.declared")
VARIANT = "scripted"
SAYS = "model.77.m.1.bias"


def export(detector: YoloDetector, variant: Variant, options: ExportOptions) -> bytes:
    network = modules.network_of(detector)
    with torch.no_grad():
        network.levels[1].conv.bias.zero_()
    return modules.archive(jit.script(Predictions(network).eval()), detector, variant, options)
