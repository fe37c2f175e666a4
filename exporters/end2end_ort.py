"""ONNX with NonMaxSuppression inside, for ONNX Runtime: one output (n, 7). Rows are filtered before they are decoded."""

from __future__ import annotations

from dataclasses import replace

from detparity.core.vocabulary import Variant
from detparity.models.yolov7.detector import YoloDetector
from detparity.models.yolov7.network import RawTuple

from .nms_tails import append_ort, into_inner
from .options import ExportOptions, export_graph, finish

VARIANTS = ("end2end-ort", "end2end-ort-dynamic-batch", "end2end-ort-dynamic")


def export(detector: YoloDetector, variant: Variant, options: ExportOptions) -> bytes:
    module = RawTuple(detector.network).eval()
    model = export_graph(detector, replace(variant, head="raw"), options, module)
    levels = into_inner(model, [value.name for value in model.graph.output])
    append_ort(model, levels, detector.facts, options.nms, None if variant.dynamic_batch else options.batch)
    return finish(detector, variant, options, model)
