"""Control: the decoded predictions come with the list of logits, as the official trace returns them."""

from __future__ import annotations

from typing import List, Tuple

from torch import Tensor

from detparity.detectors.detector import YoloDetector
from detparity.detectors.network import Predictions
from detparity.subject import Variant
from exporters.broken import modules
from exporters.options import ExportOptions

CAUGHT_BY = ()
VARIANT = "traced-dynamic"


def export(detector: YoloDetector, variant: Variant, options: ExportOptions) -> bytes:
    class Both(Predictions):
        def forward(self, images: Tensor) -> Tuple[Tensor, List[Tensor]]:  # type: ignore[override]
            raw = self.network(images)
            return self.decode(raw), raw

    module = Both(modules.shortcut(detector, options.size))
    return modules.archive(modules.trace(module.eval(), options), detector, variant, options)
