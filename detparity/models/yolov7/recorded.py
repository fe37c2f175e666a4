"""A detector's float64 run, operator by operator, under the paths that its users know."""

from __future__ import annotations

import numpy as np

from detparity.core.trace import Trace
from detparity.models.exact_conv import run_at_once
from detparity.models.recording import recorded
from detparity.models.yolov7.detector import YoloDetector, official_key
from detparity.models.yolov7.network import Predictions, member_of

INNER = "network."  # before every path of the network, inside what decodes


def trace(detector: YoloDetector, images: np.ndarray) -> Trace:
    """(B, 3, H, W) images through the network and its decode."""
    module = Predictions(detector.exact).eval()

    def official(path: str) -> str:
        inner = path[len(INNER) :] if path.startswith(INNER) else ""
        parts = inner.split(".")
        if parts[0] == "levels" and len(parts) == 2:
            prefix, _, layers = member_of(detector.exact, "levels", int(parts[1]))
            return f"{prefix}model.{layers}"
        return official_key(detector.exact, inner) if len(parts) > 1 else ""

    with run_at_once(module):
        return recorded(module, module, images, official)
