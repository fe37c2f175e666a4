"""The weights went through float16 and back (issue 2; museum 082)."""

from __future__ import annotations

from detparity.detectors.detector import YoloDetector
from detparity.detectors.network import RawTuple
from detparity.subject import Variant
from exporters.broken import modules
from exporters.options import ExportOptions

CAUGHT_BY = ("script.weights", "parity.declared")
VARIANT = "traced"
HEAD = "raw"
SAYS = "rounded to float16"


def export(detector: YoloDetector, variant: Variant, options: ExportOptions) -> bytes:
    network = modules.network_of(detector).half().float()
    return modules.archive(modules.trace(RawTuple(network).eval(), options), detector, variant, options)
