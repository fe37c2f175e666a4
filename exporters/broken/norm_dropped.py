"""One convolution keeps the weights from before the fold and its batch-norm is gone (museum 030, a branch left out of the fusion)."""

from __future__ import annotations

import torch

from detparity.detectors.detector import YoloDetector
from detparity.detectors.network import FixedPredictions
from detparity.subject import Variant
from exporters.broken import modules
from exporters.options import ExportOptions, to_onnx

CAUGHT_BY = ("structure.weights", "parity.declared")
VARIANT = "grid"


def export(detector: YoloDetector, variant: Variant, options: ExportOptions) -> bytes:
    network = modules.network_of(detector)
    with torch.no_grad():
        network.model[7].block.conv.weight.copy_(torch.from_numpy(detector.weights[6].plain))
    return to_onnx(detector, variant, options, FixedPredictions(network, options.size).eval())
