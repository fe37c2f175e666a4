"""TorchScript by tracing, with the head of the variant. The grid is computed in the trace, so no size is baked in."""

from __future__ import annotations

import io
import json

import torch

from detparity.artifacts.torchscript_facts import METADATA_FILE
from detparity.core.vocabulary import Variant
from detparity.models.compat import jit
from detparity.models.yolov7.detector import YoloDetector
from detparity.models.yolov7.network import Predictions, RawTuple, half_network

from .options import ExportOptions, metadata

VARIANTS = ("traced", "traced-dynamic")


def export(detector: YoloDetector, variant: Variant, options: ExportOptions) -> bytes:
    network = half_network(detector.network) if options.half else detector.network
    module = (Predictions if variant.head == "grid" else RawTuple)(network).eval()
    traced = jit.trace(module, torch.zeros(options.batch, 3, *options.size))
    buffer = io.BytesIO()
    jit.save(traced, buffer, {METADATA_FILE: json.dumps(metadata(detector, variant, options))})
    return buffer.getvalue()
