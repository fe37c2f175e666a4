"""Random numbers below the noise of float32 are added in every call of the lite file (museum 099)."""

from __future__ import annotations

import torch

from detparity.detectors.detector import YoloDetector
from detparity.subject import Variant
from exporters.broken import modules
from exporters.options import ExportOptions

CAUGHT_BY = ("script.operators", "parity.repeat")
UNSEEN_BY = ("parity.declared",)
VARIANT = "lite"
SAYS = "aten::randn_like"


def export(detector: YoloDetector, variant: Variant, options: ExportOptions) -> bytes:
    network = modules.shortcut(detector, options.size)
    module = modules.Wrapped(network, after=lambda found: found * (1 + 2.0**-23 * torch.randn_like(found)))
    return modules.lite(modules.trace(module.eval(), options), detector, variant, options)
