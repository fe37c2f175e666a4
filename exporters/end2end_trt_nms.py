"""The four outputs of the TensorRT plugin by the standard operator: EfficientNMS_TRT is deprecated from TensorRT 10.12 on."""

from __future__ import annotations

from dataclasses import replace

from detparity.core.vocabulary import Variant
from detparity.models.yolov7.detector import YoloDetector
from detparity.models.yolov7.network import FixedPredictions

from .nms_tails import append_trt_nms, into_inner
from .options import ExportOptions, export_graph, finish

VARIANTS = ("end2end-trt-nms", "end2end-trt-nms-dynamic-batch")


def export(detector: YoloDetector, variant: Variant, options: ExportOptions) -> bytes:
    module = FixedPredictions(detector.network, options.size).eval()
    model = export_graph(detector, replace(variant, head="grid"), options, module)
    predictions = into_inner(model, [model.graph.output[0].name])[0]
    batch = None if variant.dynamic_batch else options.batch
    append_trt_nms(model, predictions, detector.facts, options.nms, batch)
    return finish(detector, variant, options, model)
