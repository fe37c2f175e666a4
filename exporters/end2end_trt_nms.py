"""The four outputs of the TensorRT plugin by the standard operator: EfficientNMS_TRT is deprecated from TensorRT 10.12 on."""

from __future__ import annotations

from detparity.core.vocabulary import Variant
from detparity.models.yolov7.detector import YoloDetector
from detparity.models.yolov7.network import FixedBoxes

from .nms_tails import append_trt_nms, into_inner
from .options import ExportOptions, export_graph, finish

VARIANTS = ("end2end-trt-nms", "end2end-trt-nms-dynamic-batch")
INNER = ("boxes", "scores")


def export(detector: YoloDetector, variant: Variant, options: ExportOptions) -> bytes:
    module = FixedBoxes(detector.network, options.size, corners=True, by_class=True).eval()
    model = export_graph(detector, variant, options, module, INNER)
    batch = None if variant.dynamic_batch else options.batch
    boxes, scores = into_inner(model, INNER)
    append_trt_nms(model, boxes, scores, options.nms, batch)
    return finish(detector, variant, options, model)
