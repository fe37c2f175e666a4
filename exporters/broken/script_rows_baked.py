"""The number of predictions is a Python number in the last view of a trace (museum 097)."""

from __future__ import annotations

from detparity.detectors.detector import YoloDetector
from detparity.subject import Variant
from exporters.broken import modules
from exporters.options import ExportOptions

CAUGHT_BY = ("script.baked-size", "parity.sizes")
UNSEEN_BY = ("parity.declared",)
VARIANT = "traced-dynamic"
SAYS = "aten::reshape -1, 5040, 10 the 5040 rows up to those of stride 32 at 256x320"


def export(detector: YoloDetector, variant: Variant, options: ExportOptions) -> bytes:
    facts = detector.facts
    shape = (-1, facts.rows(options.size), facts.fields)
    module = modules.Wrapped(modules.shortcut(detector, options.size), after=lambda found: found.reshape(shape))
    return modules.archive(modules.trace(module.eval(), options), detector, variant, options)
