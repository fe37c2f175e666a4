"""The module tidies up the caller's own buffer: every output is right and the image is another one afterwards (museum 020)."""

from __future__ import annotations

from detparity.detectors.detector import YoloDetector
from detparity.subject import Variant
from exporters.broken import modules
from exporters.options import ExportOptions

CAUGHT_BY = ("parity.repeat",)
UNSEEN_BY = ("parity.declared",)
VARIANT = "traced-dynamic"
SAYS = "writes to its input buffer"


def export(detector: YoloDetector, variant: Variant, options: ExportOptions) -> bytes:
    network = modules.shortcut(detector, options.size)
    module = modules.Wrapped(network, before=lambda images: images.clamp_(min=1e-12))
    return modules.archive(modules.trace(module.eval(), options), detector, variant, options)
