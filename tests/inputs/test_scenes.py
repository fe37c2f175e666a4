"""Scenes: the same everywhere, what they promise about their truth, and shapes against polygons drawn by other code."""

from __future__ import annotations

import hashlib
import json

import numpy as np
import pytest
from hypothesis import given, settings

from detparity.inputs import images, scenes
from detparity.inputs.case_strategies import scenes as scenes_of
from detparity.inputs.scenes import CLASSES, scene

CORNERS = {
    "square": [(0.70710678 * x, 0.70710678 * y) for x, y in ((-1, -1), (1, -1), (1, 1), (-1, 1))],
    "triangle": [(np.cos(a), np.sin(a)) for a in np.deg2rad([-90, 30, 150])],
    "star": [(r * np.cos(a), r * np.sin(a)) for k in range(10) for a, r in [(np.deg2rad(36 * k + 90), (1.0, 0.38196601)[k % 2])]],
    "cross": [
        (0.95, 0.3), (0.3, 0.3), (0.3, 0.95), (-0.3, 0.95), (-0.3, 0.3), (-0.95, 0.3),
        (-0.95, -0.3), (-0.3, -0.3), (-0.3, -0.95), (0.3, -0.95), (0.3, -0.3), (0.95, -0.3),
    ],
}  # fmt: skip


def _inside(corners, u, v):
    """Whether points lie in a polygon, by the number of its edges that a ray to the right crosses."""
    inside = np.zeros(u.shape, bool)
    for (x1, y1), (x2, y2) in zip(corners, [*corners[1:], corners[0]]):
        crosses = (y1 > v) != (y2 > v)
        with np.errstate(divide="ignore", invalid="ignore"):
            inside ^= crosses & (u < x1 + (v - y1) * (x2 - x1) / (y2 - y1))
    return inside


@pytest.mark.parametrize("shape", CLASSES)
def test_shapes_are_the_polygons_they_are_named_for(shape):
    """Turned and stretched; points within a hundredth of a pixel of an outline may fall on either side."""
    frame = scenes._Frame(0.0, 0.0, 30.0, 24.0, 0.8, 0.6)
    x, y = np.linspace(-35, 35, 281, dtype=np.float32), np.linspace(-34, 34, 273, dtype=np.float32)
    distance = scenes.SHAPES[shape](frame, x, y)
    px, py = np.meshgrid(x.astype(float), y.astype(float))
    u, v = (px * 0.8 + py * 0.6) / 30, (py * 0.8 - px * 0.6) / 24

    expected = u * u + v * v < 1 if shape == "circle" else _inside(CORNERS[shape], u, v)

    assert (((distance < 0) == expected) | (np.abs(distance) < 0.01)).all()
    assert 0.1 < (distance < 0).mean() < 0.8


@settings(max_examples=40, derandomize=True, database=None, deadline=None)
@given(drawn=scenes_of(most=384))
def test_a_scene_is_an_image_with_boxes_inside_it(drawn):
    _, height, width = drawn.image.shape
    assert drawn.image.shape[0] == 3 and drawn.image.dtype == np.float32 and drawn.image.flags.c_contiguous
    assert 0.0 <= drawn.image.min() < drawn.image.max() <= 1.0
    assert drawn.boxes.shape == (len(drawn.classes), 4) and drawn.boxes.dtype == np.float64
    assert drawn.classes.dtype == np.int64 and set(drawn.classes) <= set(range(len(CLASSES)))
    low, high = drawn.boxes[:, :2], drawn.boxes[:, 2:]
    assert (low >= 0).all() and (high <= [width, height]).all()
    assert (high - low >= scenes.LEAST_SIDE).all()


@pytest.mark.parametrize("size", [(32, 32), (64, 32), (640, 384)])
def test_the_picture_of_a_scene_is_a_kind_of_picture(size):
    drawn = scene(size, 3)

    np.testing.assert_array_equal(images.make("scene", size, 3), drawn.image)
    assert drawn.image.shape == (3, *size)
    assert len(drawn.classes) or size == (32, 32)


def test_a_scene_is_the_same_scene_everywhere():
    """Truth to the bit; pixels to a few roundings, so their means over blocks to six digits."""
    drawn = [scene((128, 160), seed) for seed in range(6)]
    again = scene((128, 160), 3)

    truth = json.dumps([[one.boxes.tolist(), one.classes.tolist()] for one in drawn])
    means = [float(one.image[:, :64, 80:].mean(dtype=np.float64)) for one in drawn]

    np.testing.assert_array_equal(again.image, drawn[3].image)
    assert hashlib.sha256(truth.encode()).hexdigest()[:16] == "c9df72710ebcb609"
    assert means == pytest.approx([0.5529574, 0.3184681, 0.3694067, 0.530326, 0.422022, 0.3696101], abs=1e-6)


def test_the_truth_is_tight_around_what_is_seen_and_half_of_everything_is(monkeypatch):
    """Each side of a box touches a pixel of its object and no pixel of it lies outside."""
    recorded = {}
    truth = scenes._truth
    monkeypatch.setattr(
        scenes, "_truth", lambda owners, objects: recorded.update(o=owners, n=objects) or truth(owners, objects)
    )
    thin = 0
    for seed in range(12):
        drawn = scene((256, 320), seed)
        rest = list(zip(drawn.boxes.tolist(), drawn.classes.tolist()))
        assert len(recorded["n"]) > 5
        for index, one in enumerate(recorded["n"]):
            y, x = np.nonzero(recorded["o"] == index + 1)
            box = [x.min(), y.min(), x.max() + 1, y.max() + 1]
            assert len(x) >= scenes.VISIBLE * one.pixels
            if min(box[2] - box[0], box[3] - box[1]) < scenes.LEAST_SIDE:
                thin += 1
                continue
            assert (box, one.label) == tuple(rest.pop(0))
        assert rest == []
    assert thin < 5


def test_scenes_hold_what_they_promise():
    """All classes as often, small and large, cut by the border, crowded and overlapping."""
    drawn = [scene((256, 256), seed) for seed in range(60)]
    boxes, classes = np.concatenate([one.boxes for one in drawn]), np.concatenate([one.classes for one in drawn])
    sides = np.sqrt((boxes[:, 2] - boxes[:, 0]) * (boxes[:, 3] - boxes[:, 1]))
    counts = [len(one.classes) for one in drawn]

    assert np.bincount(classes, minlength=len(CLASSES)).min() > 0.7 * len(classes) / len(CLASSES)
    assert np.quantile(sides, 0.1) < 20 < 70 < np.quantile(sides, 0.95)
    assert 0.1 < ((boxes.min(1) == 0) | (boxes.max(1) == 256)).mean() < 0.4
    assert min(counts) < 10 < 20 < max(counts)
    touching = sum(
        ((np.minimum(a[2:], b[2:]) - np.maximum(a[:2], b[:2])).min() > 0)
        for one in drawn
        for k, a in enumerate(one.boxes)
        for b in one.boxes[:k]
    )
    assert touching > len(boxes) / 3
