"""parity.map: whom it asks, what it compares, and what it says."""

from __future__ import annotations

import copy
from dataclasses import replace

import numpy as np
import pytest
import torch

from detparity.checks import registry
from detparity.checks.mean_ap import RULE, SLACK, _labelled, suppressed
from detparity.checks.opening import make_context, open_file
from detparity.core.contract import contract_for
from detparity.core.vocabulary import parse_variant
from detparity.engines.reference_runs import make_oracle
from detparity.inputs.explore import explore
from detparity.inputs.scenes import CLASSES, scene
from detparity.models.choice import ModelChoice
from detparity.models.yolov7.detector import make_detector
from detparity.models.yolov7.network import Predictions
from detparity.models.yolov7.seeded import seeded
from detparity.oracle.average_precision import Detected, Objects, bounds, precision
from detparity.tools.export_cache import export_bytes

CHECK = "parity.map"
SIZE = (96, 128)
SMALLEST = ("raw", "end2end-ort", "end2end-trt-nms")  # the suites ask every form at its own size
HEADS = ("raw", "grid", "end2end-ort", "end2end-trt", "end2end-trt-nms", "traced", "scripted")
MORE = pytest.mark.more


@pytest.fixture(scope="module")
def detector(session):
    if session.choice != ModelChoice():
        pytest.skip("asked of the bundled detector alone")
    return session.detector


@pytest.fixture
def outcome_of(session, detector, tmp_path):
    """Call with a detector (and options) for the check's outcome on its export, judged against `model` (default: the bundled)."""

    def judge(other, name, size=SIZE, batch=1, model=detector):
        path = tmp_path / f"{len(list(tmp_path.iterdir()))}"
        path.write_bytes(export_bytes(other, parse_variant(name), size, batch=batch))
        oracle = session.oracle if model is detector else make_oracle(model, session.clock, ())
        found = open_file(path, model.facts, name)
        return make_context(model, found, oracle, session.clock, explore).outcome(CHECK)

    return judge


def test_it_is_asked_of_detectors_that_know_the_classes(detector):
    facts, check = detector.facts, registry()[CHECK]
    variant = parse_variant("grid")

    def asked(names):
        return check.applies(contract_for(variant, replace(facts, names=names), SIZE))

    assert asked(CLASSES) and asked(tuple(reversed(CLASSES))) and asked(("heart", *CLASSES))
    assert not asked(CLASSES[:4]) and not asked(tuple(f"class{k}" for k in range(80)))


@pytest.mark.parametrize(
    "name, size",
    [
        *(pytest.param(name, SIZE, marks=() if name == "traced" else MORE) for name in HEADS),
        *(pytest.param(name, (32, 32), marks=() if name in SMALLEST else MORE) for name in HEADS),
    ],
)
def test_good_files_pass_at_small_sizes(name, size, detector, outcome_of):
    outcome = outcome_of(detector, name, size)

    assert (outcome.outcome, outcome.reason) == ("passed", None)


@pytest.mark.parametrize("name", ["end2end-ort", *(pytest.param(name, marks=MORE) for name in ("grid", "end2end-trt"))])
def test_a_fixed_batch_is_fed_whole_batches(name, detector, outcome_of):
    assert outcome_of(detector, name, batch=3).outcome == "passed"


def _reordered(detector, order):
    """Its network with the rows of its classes in another order."""
    network = copy.deepcopy(detector.network)
    fields = [*range(5), *(5 + k for k in order)]
    with torch.no_grad():
        for level in network.levels:
            rows = [anchor * 10 + field for anchor in range(3) for field in fields]
            level.conv.weight.copy_(level.conv.weight[rows])
            level.conv.bias.copy_(level.conv.bias[rows])
    return network


@pytest.mark.parametrize(
    "name", ["end2end-ort", *(pytest.param(name, marks=MORE) for name in ("raw", "end2end-trt", "traced"))]
)
def test_two_classes_that_changed_places_are_seen_and_named(name, detector, outcome_of):
    swapped = replace(detector, network=_reordered(detector, [0, 2, 1, 3, 4]))

    outcome = outcome_of(swapped, name, (256, 320))

    assert outcome.outcome == "failed"
    (finding,) = outcome.findings
    rows = {row[0]: row[1:] for row in finding.rows}
    assert finding.message.startswith("has less mAP50 than the model on 16 scenes of 256x320: ")
    assert rows[""] == ("model", "file", "noise permits")
    assert {name for name, (ours, theirs, *_) in rows.items() if name.startswith("AP50") and ours != theirs} == {
        "AP50 square",
        "AP50 triangle",
    }
    assert float(rows["mAP50"][0]) - float(rows["mAP50"][1]) > 0.1
    (note,) = finding.notes
    assert note.startswith("First in scene ") and "square" in note and "triangle" in note


def test_the_same_detector_with_its_classes_in_another_order_has_the_same_precision(detector, outcome_of):
    """Names decide what a class is, not its index; and it may have classes of its own."""
    order = [3, 0, 4, 2, 1]
    other = make_detector("other", tuple(CLASSES[k] for k in order), _reordered(detector, order))

    assert outcome_of(other, "grid", model=other).outcome == "passed"
    assert outcome_of(other, "grid", (256, 320)).outcome == "failed"
    contract = contract_for(parse_variant("grid"), replace(detector.facts, names=("heart", *CLASSES)), SIZE)
    found = Detected(np.zeros((3, 4)), np.array([0.3, 0.2, 0.1]), np.array([0, 5, 1]))
    assert _labelled(found, contract).classes.tolist() == [4, 0]
    assert _labelled(found, contract).scores.tolist() == [0.2, 0.1]


def test_another_models_file_is_told_by_its_shapes(outcome_of):
    outcome = outcome_of(seeded(classes=3), "grid")

    assert outcome.outcome == "failed"
    assert "returns other shapes than promised" in outcome.findings[0].message


def test_eager_float32_has_the_precision_of_float64_within_the_bounds(detector, session):
    """What the check asks of files holds for the model itself, as PyTorch runs it, on scenes the check does not use."""
    pictures = [("scene", seed) for seed in range(100, 112)]
    size = (192, 256)
    truths = [session.oracle.truth(picture, size, "grid") for picture in pictures]
    drawn = [scene(size, seed) for _, seed in pictures]
    objects = [Objects(one.boxes, one.classes) for one in drawn]
    with torch.no_grad():
        rows = Predictions(detector.network)(torch.from_numpy(np.stack([one.image for one in drawn]))).numpy()

    eager = precision([suppressed(values, RULE) for values in rows], objects, len(CLASSES))

    exact = [suppressed(np.concatenate(truth.levels), RULE) for truth in truths]
    sure = [[replace(one, moves=np.full(len(one.scores), 1e-2))] for one in exact]
    low, high = bounds(sure, objects, len(CLASSES), 1e-4)
    assert low.map50 - SLACK <= eager.map50 <= high.map50 + SLACK
    assert low.map - SLACK <= eager.map <= high.map + SLACK
    assert high.map50 - low.map50 < 0.02
