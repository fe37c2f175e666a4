"""What a file loses against its model, on detections made for it."""

from __future__ import annotations

import types

import numpy as np
import pytest

from detparity.checks import quantised
from detparity.checks.pictures import Seen
from detparity.core.budget import budget_of
from detparity.core.findings import CannotRun
from detparity.oracle.average_precision import Detected, Objects
from detparity.oracle.detection_budget import losses


def _found(count, shift=0.0, score=0.9):
    corner = 40.0 * np.arange(count)[:, None]
    boxes = np.concatenate([corner, corner, corner + 30, corner + 30], axis=1) + shift
    return Detected(boxes, np.full(count, score), np.zeros(count, np.int64))


def test_the_same_detections_lose_nothing():
    model = [_found(4)] * 6
    found = losses(model, model, [Objects(one.boxes, one.classes) for one in model])

    assert {name: loss.value for name, loss in found.losses.items()} == dict.fromkeys(found.losses, 0.0)
    assert (found.pictures, found.model, found.file, found.labelled) == (6, 24, 24, True)


def test_boxes_lost_added_and_moved_are_counted_in_parts_of_the_models():
    model, file = [_found(4)] * 6, [_found(3, shift=2.0, score=0.8)] * 6
    found = losses(model, file, [None] * 6).losses
    back = losses(file, model, [None] * 6).losses

    assert found["lost"].value == 0.25 and found["added"].value == 0.0
    assert back["added"].value == pytest.approx(1 / 3)
    assert found["moved"].value == pytest.approx(2.0) and found["score"].value == pytest.approx(0.1)
    assert found["lost"].low == found["lost"].high == 0.25 and "map" not in found


def test_a_score_that_falls_just_under_the_threshold_is_no_lost_box():
    found = losses([_found(4, score=0.26)] * 5, [_found(4, score=0.2)] * 5, [None] * 5).losses

    assert found["lost"].value == 0.0 and found["score"].value == pytest.approx(0.06)
    assert not losses([_found(4)], [_found(4)], [None]).losses["lost"].known


def test_a_score_that_falls_under_the_threshold_of_a_file_that_suppresses_is_no_lost_box():
    model, none = _found(4, score=0.26), _found(0)

    assert losses([model] * 5, [none] * 5, [None] * 5).losses["lost"].value == 1.0
    assert losses([model] * 5, [none] * 5, [None] * 5, least=0.25).losses["lost"].value == 0.0
    assert losses([_found(4)] * 5, [none] * 5, [None] * 5, least=0.25).losses["lost"].value == 1.0


def test_a_picture_without_labels_leaves_the_map_of_the_others():
    model, file = [_found(4)] * 6, [_found(4, shift=9.0)] * 6
    truths = [Objects(one.boxes, one.classes) for one in model]

    found = losses(model, file, [None, *truths[1:]])
    assert found.labelled and found.losses["map"].value == losses(model, file, truths).losses["map"].value > 0
    none = Objects(np.zeros((0, 4)), np.zeros(0, np.int64))
    assert "map" not in losses(model, file, [none] * 6).losses


def _judged(losses_, text):
    context = types.SimpleNamespace(
        budget=budget_of(text),
        notes={"losses": losses_},
        contract=types.SimpleNamespace(varies_size=False),
        artifact=types.SimpleNamespace(kind="torchscript"),
        photos=(("photo", 0),),
    )
    return list(quantised.budget(context))


def test_a_limit_of_map_that_nothing_could_be_compared_with_is_no_pass():
    model = [_found(4)] * 6

    assert _judged(losses(model, model, [None] * 6), "lost=0.01") == []
    with pytest.raises(CannotRun, match="no true objects are known: give them by --labels"):
        _judged(losses(model, model, [None] * 6), "map=0.01")


def test_over_the_budget_on_too_few_pictures_is_undecided():
    with pytest.raises(CannotRun, match="1 pictures are too few to tell"):
        _judged(losses([_found(4)], [_found(3)], [None]), "")


def test_a_file_of_any_size_is_judged_at_another_one_too(monkeypatch):
    def seen(context, count, size=None):
        return [Seen(("scene", k), size or (128, 160), _found(4), _found(4 if size is None else 1)) for k in range(6)]

    monkeypatch.setattr(quantised, "_seen", seen)
    contract = types.SimpleNamespace(varies_size=True, size=(128, 160))
    layout = types.SimpleNamespace(selected=False)
    context = types.SimpleNamespace(
        budget=budget_of(""), notes={}, contract=contract, photos=("a",), objects={}, layout=layout
    )
    (found,) = quantised.budget(context)
    assert found.message.startswith(
        "is over its budget at 192x128 in share of the model's boxes that have no partner: 0.75"
    )

    contract.varies_size = False
    assert list(quantised.budget(context)) == []
