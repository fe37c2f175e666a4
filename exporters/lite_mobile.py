"""The same promise as `lite`, optimised for mobile: convolutions packed for XNNPACK. Builds of torch without XNNPACK cannot make it
and cannot load it; `expectations.toml` says which those are."""

from __future__ import annotations

import json

from detparity.artifacts.torchscript_facts import METADATA_FILE
from detparity.core.vocabulary import Variant
from detparity.models.compat import jit
from detparity.models.yolov7.detector import YoloDetector

from .options import ExportOptions, metadata
from .scripted import script

VARIANTS = ("lite-mobile",)
PROMISE = {"lite-mobile": "lite"}


def export(detector: YoloDetector, variant: Variant, options: ExportOptions) -> bytes:
    module = jit.for_mobile(script(detector, variant))
    return jit.lite(module, {METADATA_FILE: json.dumps(metadata(detector, variant, options))})
