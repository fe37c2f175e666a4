"""The coarsest level is not among the outputs (museum 028)."""

from __future__ import annotations

from typing import Tuple

from torch import Tensor

from detparity.detectors.detector import YoloDetector
from detparity.detectors.network import RawTuple
from detparity.subject import Variant
from exporters.broken import modules
from exporters.options import ExportOptions

CAUGHT_BY = ("script.structure", "parity.declared")
VARIANT = "traced"
HEAD = "raw"


def export(detector: YoloDetector, variant: Variant, options: ExportOptions) -> bytes:
    class Short(RawTuple):
        def forward(self, images: Tensor) -> Tuple[Tensor, ...]:
            return tuple(self.network(images)[:2])

    module = Short(modules.shortcut(detector, options.size))
    return modules.archive(modules.trace(module.eval(), options), detector, variant, options)
