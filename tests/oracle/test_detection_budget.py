"""What a file loses against its model, on detections made for it."""

from __future__ import annotations

import numpy as np
import pytest

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
    found = losses(model, file, None).losses
    back = losses(file, model, None).losses

    assert found["lost"].value == 0.25 and found["added"].value == 0.0
    assert back["added"].value == pytest.approx(1 / 3)
    assert found["moved"].value == pytest.approx(2.0) and found["score"].value == pytest.approx(0.1)
    assert found["lost"].low == found["lost"].high == 0.25 and "map" not in found


def test_a_score_that_falls_just_under_the_threshold_is_no_lost_box():
    found = losses([_found(4, score=0.26)] * 5, [_found(4, score=0.2)] * 5, None).losses

    assert found["lost"].value == 0.0 and found["score"].value == pytest.approx(0.06)
    assert not losses([_found(4)], [_found(4)], None).losses["lost"].known
