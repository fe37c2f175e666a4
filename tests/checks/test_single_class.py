"""A detector of one class, whose class score was never trained: objectness alone is its score."""

from __future__ import annotations

import onnx
from detparity.kit.tests.defects import edits

from detparity.core.clock import Clock
from detparity.engines.reference_runs import make_oracle
from detparity.models.yolov7.seeded import seeded
from detparity.tools.export_cache import exported


def test_a_single_class_that_is_multiplied_is_found(shared_folder, judged):
    detector = seeded("yolov7-tiny", 0.125, 0, 1)
    model = onnx.load(str(exported(detector, "end2end-ort", (64, 96), shared_folder)))
    oracle = make_oracle(detector, Clock(), ("grid",))
    scores = edits.nodes(model, "NonMaxSuppression")[0].input[1]

    assert judged(model, detector, oracle).outcome("nms.tail").outcome == "passed"
    edits.splice(model, scores, lambda x, op: op("Mul", x, 0.5))  # an untrained class score
    assert judged(model, detector, oracle).outcome("nms.tail").outcome == "failed"
