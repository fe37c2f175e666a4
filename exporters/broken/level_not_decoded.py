"""One level's centres and sizes leave the graph as they left the sigmoid (museum 015 and 017)."""

from __future__ import annotations

from typing import Any, List

import torch
from torch import Tensor

from detparity.detectors.detector import YoloDetector
from detparity.detectors.network import Predictions
from detparity.subject import Variant
from exporters.options import ExportOptions, to_onnx

CAUGHT_BY = ("parity.declared",)
VARIANT = "grid"
SAYS = "objectness, class, stride 8, stride 32"


def export(detector: YoloDetector, variant: Variant, options: ExportOptions) -> bytes:
    class Undecoded(Predictions):
        def decode(self, raw: List[Tensor]) -> Tensor:
            levels: Any = self.network.levels
            rows = [level.decode(logits, level.grid(logits)) for level, logits in zip(levels, raw)]
            rows[1] = torch.sigmoid(raw[1]).view(raw[1].shape[0], -1, raw[1].shape[4])
            return torch.cat(rows, 1)

    return to_onnx(detector, variant, options, Undecoded(detector.network).eval())
