"""TorchScript for the lite interpreter, the one phones run: the scripted detector as bytecode."""

from __future__ import annotations

import json

from detparity.compat import jit
from detparity.detectors.detector import YoloDetector
from detparity.engines.torchscript import METADATA_FILE
from detparity.subject import Variant
from exporters.options import ExportOptions, metadata
from exporters.scripted import script

VARIANTS = ("lite",)


def export(detector: YoloDetector, variant: Variant, options: ExportOptions) -> bytes:
    return jit.lite(script(detector, variant), {METADATA_FILE: json.dumps(metadata(detector, variant, options))})
