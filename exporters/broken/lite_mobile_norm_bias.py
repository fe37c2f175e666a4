"""Optimising for mobile dropped the biases of a batch-norm that was not folded (pytorch issue 76807; museum 032)."""

from __future__ import annotations

import torch

from detparity.compat import jit
from detparity.detectors.detector import YoloDetector
from detparity.detectors.network import Predictions
from detparity.subject import Variant
from exporters.broken import modules
from exporters.options import ExportOptions

CAUGHT_BY = ("parity.declared", "script.weights")
VARIANT = "lite"
SAYS = "model.0.conv.bias"
WHERE = {"torch": ">=1.11,<2.13"}


def export(detector: YoloDetector, variant: Variant, options: ExportOptions) -> bytes:
    network = modules.network_of(detector)
    modules.keep_batch_norm(network.model[0].block, torch.from_numpy(detector.weights[0].plain))
    traced = modules.trace(Predictions(network).eval(), options)
    return modules.lite(jit.for_mobile(traced), detector, variant, options)
