"""A block of the lite file kept its batch-norm: the numbers are right, the work is done twice (museum 030)."""

from __future__ import annotations

import torch

from detparity.compat import jit
from detparity.detectors.detector import YoloDetector
from detparity.detectors.network import Predictions
from detparity.subject import Variant
from exporters.broken import modules
from exporters.options import ExportOptions

CAUGHT_BY = ("script.batch-norm",)
UNSEEN_BY = ("script.weights", "parity.declared")
VARIANT = "lite"
SAYS = "keeps 1 batch-norm calls"


def export(detector: YoloDetector, variant: Variant, options: ExportOptions) -> bytes:
    network = modules.network_of(detector)
    modules.keep_batch_norm(network.model[0].block, torch.from_numpy(detector.weights[0].plain))
    return modules.lite(jit.script(Predictions(network).eval()), detector, variant, options)
