"""A dropout was left in the head and its module in training mode inside one in evaluation mode (museum 037)."""

from __future__ import annotations

from torch import Tensor, nn

from detparity.compat import jit
from detparity.detectors.detector import YoloDetector
from detparity.detectors.network import Network, Predictions
from detparity.subject import Variant
from exporters.broken import modules
from exporters.options import ExportOptions

CAUGHT_BY = ("script.operators", "parity.declared")
VARIANT = "scripted"
SAYS = "acts as in training: aten::dropout"


class Dropping(Predictions):
    def __init__(self, network: Network) -> None:
        super().__init__(network)
        self.drop = nn.Dropout(1e-4)

    def forward(self, images: Tensor) -> Tensor:
        return self.drop(self.decode(self.network(images)))


def export(detector: YoloDetector, variant: Variant, options: ExportOptions) -> bytes:
    module = Dropping(modules.shortcut(detector, options.size)).eval()
    module.drop.train()
    return modules.archive(jit.script(module), detector, variant, options)
