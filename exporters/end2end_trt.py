"""ONNX with the TensorRT plugin EfficientNMS_TRT at its end: four outputs of fixed length."""

from __future__ import annotations

from detparity.core.vocabulary import Variant
from detparity.models.yolov7.detector import YoloDetector
from detparity.models.yolov7.network import FixedBoxes

from .nms_tails import append_trt, into_inner
from .options import ExportOptions, export_graph, finish

VARIANTS = ("end2end-trt", "end2end-trt-dynamic-batch")
INNER = ("boxes", "scores")


def export(detector: YoloDetector, variant: Variant, options: ExportOptions) -> bytes:
    module = FixedBoxes(detector.network, options.size, corners=False, by_class=False).eval()
    model = export_graph(detector, variant, options, module, INNER)
    batch = "batch" if variant.dynamic_batch else options.batch
    boxes, scores = into_inner(model, INNER)
    append_trt(model, boxes, scores, options.nms, batch)
    return finish(detector, variant, options, model)
