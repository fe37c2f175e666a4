"""What 8 bits are calibrated on is read one picture at a time."""

from __future__ import annotations

import numpy as np
import onnx
from detparity.kit.exporters import low_precision


def test_pictures_are_read_when_they_are_asked_for():
    taken = []
    pictures = (taken.append(k) or np.full((3, 2, 2), k, np.float32) for k in range(3))
    image = onnx.helper.make_tensor_value_info("images", 1, [2, 3, 2, 2])

    reader = low_precision._Pictures(image, pictures)

    assert taken == [] and reader.get_next()["images"].shape == (2, 3, 2, 2) and taken == [0]
    assert [reader.get_next() is None for _ in range(3)] == [False, False, True]
