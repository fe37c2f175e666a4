"""Which constants are grids of one image size, and which only look like one."""

from __future__ import annotations

import numpy as np
import pytest

from detparity.checks.baked import grid_constants
from detparity.subject import ModelFacts

# Square and evenly spaced, as k-means may well fit them: 12, 15, 18 steps along one axis and repeats along the other.
ANCHORS = (((12.0, 12.0), (15.0, 15.0), (18.0, 18.0)), ((22.0, 22.0), (28.0, 28.0), (36.0, 37.0)))
FACTS = ModelFacts("even", ("a",), (8, 16), ANCHORS, "")


@pytest.mark.parametrize("factor", [1.0, 1 / 8, 4.0, 0.5])
@pytest.mark.parametrize("shape", [(3, 2), (1, 3, 1, 1, 2), (6, 1)])
def test_evenly_spaced_anchors_are_no_grid(factor, shape):
    value = (np.array(ANCHORS[0], np.float32) * np.float32(factor)).reshape(shape)

    assert grid_constants({"anchors": value}, FACTS) == []


@pytest.mark.parametrize("offset", [0.0, 0.5, -0.5])
def test_a_grid_as_small_as_the_anchors_is_one(offset):
    columns, rows = np.meshgrid(np.arange(3), np.arange(1))
    cells = np.stack([columns, rows], -1).astype(np.float32) + np.float32(offset)
    plane = np.repeat(np.arange(3, dtype=np.float32)[:, None], 2, 1) + np.float32(offset)

    assert grid_constants({"grid": cells}, FACTS) == [("grid", (1, 3))]
    assert grid_constants({"rows": plane}, FACTS) == [("rows", (3, 2))]
