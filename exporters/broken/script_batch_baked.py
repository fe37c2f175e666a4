"""A Python number fixed the batch of the export while it was traced (museum 097)."""

from __future__ import annotations

from detparity.detectors.detector import YoloDetector
from detparity.subject import Variant
from exporters.broken import modules
from exporters.options import ExportOptions

CAUGHT_BY = ("parity.batches",)
UNSEEN_BY = ("parity.declared",)
VARIANT = "traced-dynamic"


def export(detector: YoloDetector, variant: Variant, options: ExportOptions) -> bytes:
    network = modules.shortcut(detector, options.size)
    module = modules.Wrapped(network, after=lambda found: found.reshape(options.batch, -1, found.shape[2]))
    return modules.archive(modules.trace(module.eval(), options), detector, variant, options)
