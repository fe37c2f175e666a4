"""Random numbers below the noise of float32 are drawn in place, by an operator of another name (museum 099)."""

from __future__ import annotations

import torch

from detparity.detectors.detector import YoloDetector
from detparity.subject import Variant
from exporters.broken import modules
from exporters.options import ExportOptions

CAUGHT_BY = ("script.operators", "parity.repeat")
UNSEEN_BY = ("parity.declared",)
VARIANT = "traced-dynamic"
SAYS = "aten::normal_"


def export(detector: YoloDetector, variant: Variant, options: ExportOptions) -> bytes:
    network = modules.shortcut(detector, options.size)
    module = modules.Wrapped(network, after=lambda found: found * (1 + 2.0**-23 * torch.empty_like(found).normal_()))
    return modules.archive(modules.trace(module.eval(), options), detector, variant, options)
