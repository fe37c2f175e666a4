"""Control: the decode as the official export writes it, factors gathered: s (2 stride) + stride (grid - 0.5)."""

from __future__ import annotations

from typing import Any, List

import torch
from torch import Tensor

from detparity.detectors.detector import YoloDetector
from detparity.detectors.network import Predictions
from detparity.subject import Variant
from exporters.options import ExportOptions, to_onnx

CAUGHT_BY = ()
VARIANT = "grid-dynamic"


def gathered(level: Any, raw: Tensor) -> Tensor:
    s = torch.sigmoid(raw)
    xy, wh, scores = s.split([2, 2, level.fields - 4], 4)
    xy = xy * (2.0 * level.stride) + level.stride * (level.grid(raw) - 0.5)
    return torch.cat([xy, wh**2 * (4 * level.anchors), scores], 4).view(raw.shape[0], -1, level.fields)


def export(detector: YoloDetector, variant: Variant, options: ExportOptions) -> bytes:
    class Gathered(Predictions):
        def decode(self, raw: List[Tensor]) -> Tensor:
            levels: Any = self.network.levels
            return torch.cat([gathered(level, logits) for level, logits in zip(levels, raw)], 1)

    return to_onnx(detector, variant, options, Gathered(detector.network).eval())
