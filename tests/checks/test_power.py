"""What a verdict states that it would have seen: an error twice as large is found."""

from __future__ import annotations

import numpy as np
import onnx
import pytest

from detparity.artifacts.onnx_graph import plain_name
from detparity.checks import nms, parity, power
from detparity.checks.inputs import reported_case
from detparity.core.case import Case
from detparity.engines.reference_runs import Oracle
from detparity.oracle.noise_floor import GROUPS


@pytest.mark.parametrize("group", ["xy", "class"])
def test_numbers_off_by_twice_what_is_stated_are_found(group, clean, judged, session):
    context = judged(clean("grid"))
    found = power.of_home(context, session.detector, 1)
    case = reported_case(context)
    outputs = {name: array.astype(np.float64) for name, array in context.predict(case).items()}
    (name,) = outputs

    assert not parity.judge_predictions(context, case, outputs, "grid")
    noise = np.random.default_rng(0).normal(size=outputs[name][..., GROUPS[group]].shape)
    outputs[name][..., GROUPS[group]] += 2 * found["sees"][group]["smallest"] * noise
    (finding,) = parity.judge_predictions(context, case, outputs, "grid")
    assert group in finding.evidence["out_of_bounds"]
    assert 0 < next(iter(found["power"].values())) < 1
    assert found["blind_spots"] == ["your own pictures: none were given (--images)"]


def test_a_weight_off_by_twice_what_is_stated_is_found_and_a_tenth_of_it_is_not(clean, judged, session):
    context = judged(clean("grid"))
    case = reported_case(context)
    ((key, size),) = power.of_home(context, session.detector, 1)["power"].items()

    for times, seen in ((2, True), (0.1, False)):
        model = clean("grid")
        (weight,) = (one for one in model.graph.initializer if plain_name(one.name).endswith(key))
        values = onnx.numpy_helper.to_array(weight).astype(np.float64) * (1 + times * size)
        weight.CopyFrom(onnx.numpy_helper.from_array(values.astype(np.float32), weight.name))
        assert bool(parity.compare(judged(model), case)) == seen, times


def test_detections_off_by_twice_what_is_stated_are_found(clean, judged, session):
    context = judged(clean("end2end-ort", size=(128, 160)))
    found = power.of_home(context, session.detector, 2)
    case = Case(context.contract.size, (power.SHOWS,))
    outputs = context.run(context.batch(case))
    (name,) = outputs

    assert not nms.judge_outputs(context, case, outputs) and len(outputs[name])
    for column, key in ((1, "box"), (6, "score")):
        moved = outputs[name].copy()
        moved[0, column] -= 2 * found["sees"][key]["smallest"]
        assert nms.judge_outputs(context, case, {name: moved}), key
    assert len(found["power"]) == 2 and all(0 < value < 0.1 for value in found["power"].values())
    assert "candidates in scene 1, which score under 0.25" in found["blind_spots"][0]


@pytest.mark.parametrize("large, asked, changed", [(False, 0, power.FEW), (True, 0, 0), (True, 2, 2)])
def test_of_a_large_image_no_weight_is_changed_unless_it_is_asked_for(
    large, asked, changed, clean, judged, session, monkeypatch
):
    monkeypatch.setattr(Oracle, "is_large", lambda oracle, size: large)
    found = power.of_home(judged(clean("grid")), session.detector, asked)
    assert len(found.get("power", {})) == changed
    assert (power.NOT_CHANGED in found["blind_spots"]) == (changed == 0)


def test_of_a_large_image_what_is_stated_allows_for_the_floor_of_all_runs(clean, judged, session, monkeypatch):
    every = power.of_home(judged(clean("grid")), session.detector, 1)
    monkeypatch.setattr(Oracle, "is_large", lambda oracle, size: True)
    context = judged(clean("grid"))
    found = power.of_home(context, session.detector, 1)
    truth = context.reported(*power.reported_case(context).pictures, context.contract.size)

    for group, row in found["sees"].items():
        floors = [stats.rms for (_, name), stats in truth.floor.items() if name == group]
        assert row["smallest"] > power.GROWS * min(floors) and row["smallest"] >= every["sees"][group]["smallest"]
    (name,) = found["power"]
    assert found["power"][name] >= every["power"][name]
