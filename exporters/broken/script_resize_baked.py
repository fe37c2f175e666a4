"""An enlargement was traced with the size it had, not with the factor (museum 003 and 097)."""

from __future__ import annotations

from torch import Tensor, nn

from detparity.detectors.blocks import Upsample
from detparity.detectors.detector import YoloDetector
from detparity.detectors.network import Predictions
from detparity.subject import Variant
from exporters.broken import modules
from exporters.options import ExportOptions

CAUGHT_BY = ("script.baked-size", "parity.sizes")
UNSEEN_BY = ("parity.declared",)
VARIANT = "traced-dynamic"
SAYS = "aten::upsample_nearest2d 16, 20 the 16x20 cells of stride 16 at 256x320"


class ToSize(nn.Module):
    def forward(self, x: Tensor) -> Tensor:
        return nn.functional.interpolate(x, size=(2 * int(x.shape[2]), 2 * int(x.shape[3])), mode="nearest")


def export(detector: YoloDetector, variant: Variant, options: ExportOptions) -> bytes:
    network = modules.network_of(detector)
    first = next(layer for layer in network.model if isinstance(getattr(layer, "block", None), Upsample))
    first.block = ToSize()
    with modules.traced_numbers():
        return modules.archive(modules.trace(Predictions(network).eval(), options), detector, variant, options)
