"""A counter in a buffer moves the output by a last bit with every other call (museum 099)."""

from __future__ import annotations

import torch
from torch import Tensor

from detparity.detectors.detector import YoloDetector
from detparity.detectors.network import Network, Predictions
from detparity.subject import Variant
from exporters.broken import modules
from exporters.options import ExportOptions

CAUGHT_BY = ("parity.repeat",)
UNSEEN_BY = ("parity.declared",)
VARIANT = "traced-dynamic"
SAYS = "other bits on call 2"


class Wavering(Predictions):
    calls: Tensor

    def __init__(self, network: Network) -> None:
        super().__init__(network)
        self.register_buffer("calls", torch.zeros(1))

    def forward(self, images: Tensor) -> Tensor:
        self.calls.add_(1)
        return self.decode(self.network(images)) * (1 + 2.0**-23 * (self.calls % 2))


def export(detector: YoloDetector, variant: Variant, options: ExportOptions) -> bytes:
    module = Wavering(modules.shortcut(detector, options.size))
    return modules.archive(modules.trace(module.eval(), options), detector, variant, options)
