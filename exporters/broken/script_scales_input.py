"""The module scales the caller's own buffer in place: the first call is right, the second sees a darker image (museum 099)."""

from __future__ import annotations

from detparity.detectors.detector import YoloDetector
from detparity.subject import Variant
from exporters.broken import modules
from exporters.options import ExportOptions

CAUGHT_BY = ("parity.repeat",)
UNSEEN_BY = ("parity.declared",)
VARIANT = "traced-dynamic"
SAYS = "other bits on call 2"


def export(detector: YoloDetector, variant: Variant, options: ExportOptions) -> bytes:
    network = modules.shortcut(detector, options.size)
    module = modules.Wrapped(network, before=lambda images: images.mul_(0.5) * 2.0)
    return modules.archive(modules.trace(module.eval(), options), detector, variant, options)
