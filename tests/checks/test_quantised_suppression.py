"""Files of 8 bits that suppress: what they detect is judged by the budget, and the suppression by its own."""

from __future__ import annotations

import types

import numpy as np
import pytest
from detparity.kit.exporters.low_precision import to_int8

from detparity.checks import quantised
from detparity.checks.context import applicable
from detparity.inputs import images
from detparity.tools.export_cache import exported

pytest.importorskip("onnxruntime.quantization")
pytestmark = pytest.mark.filterwarnings("ignore")
SIZE = (128, 160)


@pytest.fixture(scope="module")
def suppressing(session, shared_folder):
    pytest.importorskip("torch", minversion="1.8")  # the first that writes opset 13
    source = exported(session.detector, "end2end-ort", SIZE, shared_folder, opset=13).read_bytes()
    return to_int8(source, [images.make("scene", SIZE, 9000 + seed) for seed in range(4)])


def test_what_it_detects_is_judged_by_the_budget_alone(suppressing, judged):
    context = judged(suppressing)
    asked = set(applicable(context))

    assert asked & {"nms.detections", "nms.optimisation", "nms.images"} == set()
    assert {"nms.tail", "nms.repeat", "precision.budget"} <= asked
    assert context.outcome("precision.budget").outcome == "passed"


@pytest.mark.parametrize("scores, found", [([], 0), ([0.9, 0.5], 0), ([*np.arange(1, 5) / 4] * 20, 1)])
def test_few_detections_say_nothing_about_the_steps_of_scores(scores, found, monkeypatch):
    padded = np.array([*scores, *[0.0] * 20])
    monkeypatch.setattr(quantised, "_scores_of", lambda context, case: [("scores", padded)])
    monkeypatch.setattr(quantised, "_picture", lambda context: None)
    monkeypatch.setattr(quantised.tensors, "last_scales", lambda graph: [])
    contract = types.SimpleNamespace(variant=types.SimpleNamespace(end2end=True))
    context = types.SimpleNamespace(contract=contract, onnx=types.SimpleNamespace(graph=None))

    assert len(list(quantised.resolution(context))) == found
