"""The logits of the lite file come coarsest first (museum 028)."""

from __future__ import annotations

from typing import Tuple

from torch import Tensor

from detparity.detectors.detector import YoloDetector
from detparity.detectors.network import RawTuple
from detparity.subject import Variant
from exporters.broken import modules
from exporters.options import ExportOptions

CAUGHT_BY = ("script.structure", "parity.declared")
VARIANT = "lite"
HEAD = "raw"
SAYS = "returns other tensors than promised"


class Reversed(RawTuple):
    def forward(self, images: Tensor) -> Tuple[Tensor, ...]:
        return tuple(self.network(images)[::-1])


def export(detector: YoloDetector, variant: Variant, options: ExportOptions) -> bytes:
    module = Reversed(modules.shortcut(detector, options.size)).eval()
    return modules.lite(modules.trace(module, options), detector, variant, options)
