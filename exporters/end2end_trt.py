"""ONNX with the TensorRT plugin EfficientNMS_TRT at its end: four outputs of fixed length."""

from __future__ import annotations

from dataclasses import replace

from detparity.core.vocabulary import Variant
from detparity.models.yolov7.detector import YoloDetector
from detparity.models.yolov7.network import FixedPredictions

from .nms_tails import append_trt, into_inner
from .options import ExportOptions, export_graph, finish

VARIANTS = ("end2end-trt", "end2end-trt-dynamic-batch")


def export(detector: YoloDetector, variant: Variant, options: ExportOptions) -> bytes:
    module = FixedPredictions(detector.network, options.size).eval()
    model = export_graph(detector, replace(variant, head="grid"), options, module)
    batch = "batch" if variant.dynamic_batch else options.batch
    append_trt(model, into_inner(model, [model.graph.output[0].name])[0], detector.facts, options.nms, batch)
    return finish(detector, variant, options, model)
