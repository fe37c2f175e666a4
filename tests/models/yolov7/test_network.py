"""Two orders of one decode: on planes for a suppression of fixed shape, and in rows."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from detparity.models.yolov7.network import FixedBoxes, FixedPredictions
from detparity.models.yolov7.seeded import seeded

pytestmark = pytest.mark.lanes

SIZE = (64, 96)


@pytest.mark.parametrize("classes", [1, 3])
@pytest.mark.parametrize("corners, by_class", [(False, False), (True, True)])
def test_boxes_and_scores_follow_from_the_predictions(classes, corners, by_class):
    network = seeded("yolov7-tiny", 1 / 16, 0, classes).network
    images = torch.rand(2, 3, *SIZE, generator=torch.Generator().manual_seed(0))
    with torch.no_grad():
        boxes, scores = (array.numpy() for array in FixedBoxes(network, SIZE, corners, by_class).eval()(images))
        predictions = FixedPredictions(network, SIZE).eval()(images).numpy()

    xy, wh, score = predictions[..., :2], predictions[..., 2:4], predictions[..., 4:5]
    score = score * predictions[..., 5:] if classes > 1 else score
    expected = np.concatenate([xy - wh * np.float32(0.5), xy + wh * np.float32(0.5)] if corners else [xy, wh], 2)
    assert boxes.shape == (2, sum(3 * 64 * 96 // stride**2 for stride in (8, 16, 32)), 4)
    np.testing.assert_array_equal(boxes, expected)
    np.testing.assert_array_equal(scores.transpose(0, 2, 1) if by_class else scores, score)
