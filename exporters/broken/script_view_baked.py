"""Rows and columns were read as Python numbers while the decode was traced, so the views name one size (museum 097 and 005)."""

from __future__ import annotations

from typing import List

from torch import Tensor

from detparity.detectors.detector import YoloDetector
from detparity.detectors.network import Predictions
from detparity.subject import Variant
from exporters.broken import modules
from exporters.options import ExportOptions

CAUGHT_BY = ("script.baked-size", "parity.sizes")
UNSEEN_BY = ("parity.declared", "parity.batches")
VARIANT = "traced-dynamic"
SAYS = "the 32x40 cells of stride 8 at 256x320"


class Named(Predictions):
    def decode(self, raw: List[Tensor]) -> Tensor:
        return super().decode([r.view(-1, *(int(side) for side in r.shape[1:])) for r in raw])


def export(detector: YoloDetector, variant: Variant, options: ExportOptions) -> bytes:
    module = Named(modules.shortcut(detector, options.size))
    with modules.traced_numbers():
        return modules.archive(modules.trace(module.eval(), options), detector, variant, options)
