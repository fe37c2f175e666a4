"""TorchScript by scripting: the program itself is stored, so any size and any batch is right, and it runs without any code of ours."""

from __future__ import annotations

import copy
import io
import json

import torch

from detparity.artifacts.torchscript_facts import METADATA_FILE
from detparity.core.vocabulary import Variant
from detparity.models.compat import jit
from detparity.models.yolov7.detector import YoloDetector
from detparity.models.yolov7.network import Predictions

from .options import ExportOptions, metadata

VARIANTS = ("scripted",)


def script(detector: YoloDetector, variant: Variant) -> torch.jit.ScriptModule:
    """The scripted detector: decoded predictions, or the list of logits level by level."""
    network = copy.deepcopy(detector.network)  # scripting leaves marks on the modules it compiles
    return jit.script(Predictions(network).eval() if variant.head == "grid" else network)


def export(detector: YoloDetector, variant: Variant, options: ExportOptions) -> bytes:
    buffer = io.BytesIO()
    jit.save(script(detector, variant), buffer, {METADATA_FILE: json.dumps(metadata(detector, variant, options))})
    return buffer.getvalue()
