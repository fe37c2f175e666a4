"""What looks like a baked size and is none: anchors that are evenly spaced, and a number of fields that equals a count of cells."""

from __future__ import annotations

import numpy as np
import pytest

from detparity.artifacts import grid_constants
from detparity.checks import baked_size
from detparity.core.vocabulary import ModelFacts

SIZE = (256, 320)
FACTS = ModelFacts(
    "even",
    tuple(f"class{k}" for k in range(5)),  # 10 fields, and 320 pixels are 10 cells of stride 32
    (8, 16, 32),
    (((12, 12), (15, 15), (18, 18)), ((10, 20), (20, 20), (30, 20)), ((48, 47), (62, 63), (84, 84))),
    "",
)
GRID = np.stack(np.meshgrid(np.arange(3.0), np.arange(2.0)), -1).reshape(1, 1, 2, 3, 2)


@pytest.mark.parametrize("scale", [1.0, 4.0, 1 / 8])
@pytest.mark.parametrize("level", range(3))
def test_evenly_spaced_anchors_are_no_grid(level, scale):
    """In pixels, with the 4 of the decode folded in, in cells."""
    values = (np.array(FACTS.anchors[level], np.float32) * np.float32(scale)).reshape(1, 3, 1, 1, 2)

    assert grid_constants.grid_constants({"anchors": values, "grid": GRID}, FACTS) == [("grid", (2, 3))]
    assert level == 2 or grid_constants.grid_cells(values)  # by itself it looks like one


def test_a_grid_as_large_as_a_levels_anchors_is_still_a_grid():
    other = np.array([(0, 0), (1, 0), (2, 0)], np.float32).reshape(1, 1, 1, 3, 2)

    assert grid_constants.grid_constants({"row": other}, FACTS) == [("row", (1, 3))]


@pytest.mark.parametrize("offset", [0.0, 0.5, -0.5])
def test_one_coordinate_alone_is_a_grid_however_small(offset):
    plane = np.repeat(np.arange(3, dtype=np.float32)[:, None], 2, 1) + np.float32(offset)

    assert grid_constants.grid_constants({"rows": plane}, FACTS) == [("rows", (3, 2))]


def test_a_number_of_fields_is_no_count_of_cells():
    assert baked_size._what((-1, 10), SIZE, FACTS) == ""
    assert baked_size._what((-1, 40), SIZE, FACTS) == "the width of 256x320 in cells of stride 8"
    assert baked_size._what((1, 3, 8, 10, 10), SIZE, FACTS) == "the 8x10 cells of stride 32 at 256x320"
