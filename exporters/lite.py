"""TorchScript for the lite interpreter, the one phones run: the scripted detector as bytecode."""

from __future__ import annotations

import json

from detparity.artifacts.torchscript_facts import METADATA_FILE
from detparity.core.vocabulary import Variant
from detparity.models.compat import jit
from detparity.models.yolov7.detector import YoloDetector

from .options import ExportOptions, metadata
from .scripted import script

VARIANTS = ("lite",)


def export(detector: YoloDetector, variant: Variant, options: ExportOptions) -> bytes:
    return jit.lite(script(detector, variant), {METADATA_FILE: json.dumps(metadata(detector, variant, options))})
