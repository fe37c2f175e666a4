# mypy: disable-error-code="override"
"""The predictions come back in a dictionary, which no runtime of the promised list understands (museum 096)."""

from __future__ import annotations

from typing import Dict

from torch import Tensor

from detparity.compat import jit
from detparity.detectors.detector import YoloDetector
from detparity.detectors.network import Predictions
from detparity.subject import Variant
from exporters.broken import modules
from exporters.options import ExportOptions

CAUGHT_BY = ("script.structure", "parity.declared")
VARIANT = "traced-dynamic"
SAYS = "it returns a dict where tensors are wanted"


class Named(Predictions):
    def forward(self, images: Tensor) -> Dict[str, Tensor]:
        return {"output": self.decode(self.network(images))}


def export(detector: YoloDetector, variant: Variant, options: ExportOptions) -> bytes:
    module = Named(modules.shortcut(detector, options.size)).eval()
    return modules.archive(jit.script(module), detector, variant, options)
