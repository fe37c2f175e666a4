"""The worst pair of boxes behind a class offset, against a dense search of what a head can decode."""

from __future__ import annotations

from typing import Any, Dict, List, Tuple

import numpy as np
import pytest
from detparity.kit.tests.examples import examples
from hypothesis import example, given, settings
from hypothesis import strategies as st

from detparity.core.errors import InputError
from detparity.oracle.boxes import corners, iou
from detparity.oracle.class_offset import (
    SPACING_LIMIT,
    HeadRange,
    float32_spacing,
    iou_slack,
    judge,
    largest_coordinate,
    smallest_safe,
    spacing_ok,
    worst_pair,
)

FAST = settings(max_examples=examples(40), derandomize=True, database=None, deadline=None)

# Anchors of the sizes that detectors use, made up.
THREE_LEVELS = HeadRange(
    anchors=[
        [[12, 16], [19, 36], [40, 28]],
        [[36, 75], [76, 55], [72, 146]],
        [[142, 110], [192, 243], [459, 401]],
    ],
    strides=[8, 16, 32],
    image_size=(640, 640),
    classes=80,
)
WIDE = HeadRange(anchors=[[[10, 14]], [[90, 20]]], strides=[8, 32], image_size=(64, 192), classes=3)
# Small strides with large anchors: here the worst pair is of two anchors, one of its boxes smaller than it
# may be.
ODD = HeadRange(anchors=[[[96, 8]], [[10, 11]]], strides=[8, 64], image_size=(192, 128), classes=2)
CROSSED = HeadRange(anchors=[[[109, 41]], [[12, 103]]], strides=[64, 8], image_size=(64, 192), classes=2)
SEARCHED = {
    "three levels": (THREE_LEVELS, (320, 672, 768, 960, 1216)),
    "wide image": (WIDE, (96, 202, 230, 288, 365)),
    "odd": (ODD, (180, 232, 260)),
    "crossed": (CROSSED, (200, 236, 300)),
}


@st.composite
def heads(draw: st.DrawFn) -> HeadRange:
    levels, anchors = draw(st.integers(1, 3)), draw(st.integers(1, 2))
    sides = st.integers(2, 60).map(float)
    return HeadRange(
        anchors=np.array([draw(sides) for _ in range(2 * levels * anchors)]).reshape(levels, anchors, 2),
        strides=np.array([8.0 * 2**level for level in range(levels)]),
        image_size=(32 * draw(st.integers(1, 4)), 32 * draw(st.integers(1, 4))),
        classes=draw(st.integers(2, 90)),
    )


def searched(head: HeadRange, max_wh: float, rng: np.random.Generator, draws: int) -> float:
    """The largest IoU after the shift among boxes drawn from the head's range, extremes included: first
    anywhere, then around the best pairs found."""
    anchors, strides = np.asarray(head.anchors, dtype=np.float64), np.asarray(head.strides, dtype=np.float64)
    height, width = head.image_size
    level = rng.integers(0, len(strides), (2, draws))
    stride, limit = strides[level], 4 * anchors[level, rng.integers(0, anchors.shape[1], (2, draws))]
    # (2, draws, 4): class k and class k + 1; least value and extent of cx, cy, w and h.
    least = np.stack([-stride / 2, -stride / 2, 0 * stride, 0 * stride], axis=-1)
    extent = np.stack([width + stride, height + stride, limit[..., 0], limit[..., 1]], axis=-1)
    anywhere, ends = rng.random((2, draws, 4)), rng.integers(0, 2, (2, draws, 4))
    share = np.where(rng.random((2, draws, 4)) < 0.5, anywhere, ends)

    best = 0.0
    for step in (0.3, 0.1, 0.03, 0.01, 0.003) * 4:
        lower, upper = corners(least + share * extent)
        value = iou(lower, upper + max_wh)
        best = max(best, float(value.max()))
        chosen = np.repeat(np.argsort(-value)[: draws // 20], 20)
        least, extent = least[:, chosen], extent[:, chosen]
        share = np.clip(share[:, chosen] + rng.normal(0, step, (2, len(chosen), 4)), 0, 1)
    return best


@pytest.mark.parametrize("name", SEARCHED)
def test_a_dense_search_never_beats_the_worst_pair_and_nearly_reaches_it(name: str) -> None:
    head, offsets = SEARCHED[name]
    rng = np.random.default_rng(0)
    for max_wh in offsets:
        pair = worst_pair(head, max_wh)
        assert pair is not None
        found = searched(head, max_wh, rng, 20_000)
        assert found <= pair.iou + 1e-12
        assert found >= 0.97 * pair.iou


@FAST
@given(heads(), st.integers(0, 600), st.integers(0, 2**32 - 1))
def test_no_search_beats_the_worst_pair(head: HeadRange, max_wh: int, seed: int) -> None:
    pair = worst_pair(head, max_wh)
    assert pair is not None
    assert searched(head, max_wh, np.random.default_rng(seed), 400) <= pair.iou + 1e-12


@FAST
@given(heads(), st.integers(0, 600))
@example(HeadRange(anchors=[[[9, 9]], [[9, 9]]], strides=[8, 64], image_size=(8, 8), classes=2), 20)
def test_the_worst_pair_is_decodable_and_overlaps_as_it_says(head: HeadRange, max_wh: int) -> None:
    pair = worst_pair(head, max_wh)
    assert pair is not None
    height, width = head.image_size
    for box, (level, anchor) in (
        (pair.lower_class, pair.lower_anchor),
        (pair.upper_class, pair.upper_anchor),
    ):
        x1, y1, x2, y2 = box
        stride, limit = np.asarray(head.strides)[level], 4 * np.asarray(head.anchors)[level, anchor]
        for centre, side, size, most in (
            ((x1 + x2) / 2, width, x2 - x1, limit[0]),
            ((y1 + y2) / 2, height, y2 - y1, limit[1]),
        ):
            assert -stride / 2 - 1e-9 <= centre <= side + stride / 2 + 1e-9
            assert -1e-9 <= size <= most + 1e-9
    assert iou(pair.lower_class, np.array(pair.upper_class) + max_wh) == pytest.approx(pair.iou, abs=1e-12)


@FAST
@given(heads(), st.sampled_from([0.05, 0.45, 0.65, 0.95]))
def test_smallest_safe_is_where_the_worst_pair_stops_colliding(head: HeadRange, threshold: float) -> None:
    safe = smallest_safe(head, threshold)
    assert safe is not None
    worst = [worst_pair(head, offset) for offset in range(1, safe + 40)]
    values = [pair.iou for pair in worst if pair is not None]
    assert values == sorted(values, reverse=True)
    assert all(value > threshold for value in values[: safe - 1])
    assert all(value <= threshold for value in values[safe - 1 :])
    assert judge(head, safe, threshold) is None
    if safe > 1:
        breach = judge(head, safe - 1, threshold)
        assert breach is not None and breach.kind == "collision" and breach.smallest_safe == safe


def test_a_collision_is_reported_with_its_pair_and_the_remedy() -> None:
    breach = judge(THREE_LEVELS, 640, 0.45)
    assert breach is not None and breach.pair is not None
    assert breach.pair.iou == 1.0
    assert breach.facts["smallest_safe"] == breach.smallest_safe
    assert breach.sentence.startswith("A class offset of 640 px lets neighbouring classes suppress each other: [")
    assert "IoU 1.000 after the shift, over the threshold 0.45;" in breach.sentence
    assert breach.sentence.endswith(f"the smallest safe offset is {breach.smallest_safe}.")


def test_offsets_that_float32_cannot_carry_are_refused() -> None:
    breach = judge(THREE_LEVELS, 60_000, 0.65)
    assert breach is not None and breach.kind == "spacing" and breach.pair is None
    assert breach.facts["spacing"] == 0.5
    assert "float32 numbers lie 0.5 px apart, more than 0.25; the smallest safe offset is" in breach.sentence
    # The last class starts at 79 * max_wh: the spacing doubles from 0.25 to 0.5 at 2**22 px.
    edge = int((2**22 - largest_coordinate(THREE_LEVELS, 0)) // 79)
    assert spacing_ok(THREE_LEVELS, edge) and not spacing_ok(THREE_LEVELS, edge + 1)
    assert float32_spacing(THREE_LEVELS, edge) == SPACING_LIMIT


def test_where_no_offset_serves_that_is_reported() -> None:
    crowd_of_classes = HeadRange(THREE_LEVELS.anchors, THREE_LEVELS.strides, (640, 640), classes=20_000)
    assert smallest_safe(crowd_of_classes, 0.65) is None
    for offset in (100, 2000):
        breach = judge(crowd_of_classes, offset, 0.65)
        assert breach is not None and breach.smallest_safe is None
        assert "no offset keeps these classes apart in float32" in breach.sentence


def test_the_slack_covers_the_rounding_of_a_shift() -> None:
    rng = np.random.default_rng(0)
    coordinates = rng.uniform(-300, largest_coordinate(THREE_LEVELS, 0), 20_000).astype(np.float32)
    for max_wh in (829, 4096, 50_000):
        shift = np.float32(79) * np.float32(max_wh)
        exact = coordinates.astype(np.float64) + 79 * max_wh
        error = np.abs((coordinates + shift).astype(np.float64) - exact)
        assert 0.5 * iou_slack(THREE_LEVELS, max_wh) < error.max() <= iou_slack(THREE_LEVELS, max_wh)


def test_one_class_and_class_agnostic_suppression_are_not_judged() -> None:
    single = HeadRange(THREE_LEVELS.anchors, THREE_LEVELS.strides, (640, 640), classes=1)
    assert worst_pair(single, 1) is None
    assert smallest_safe(single, 0.0) == 1
    assert judge(single, 1, 0.0) is None
    assert judge(THREE_LEVELS, 0, 0.45) is None


def test_a_larger_image_never_needs_a_smaller_offset() -> None:
    sizes: List[Tuple[int, int]] = [(320, 320), (320, 640), (640, 640), (1280, 640)]
    safe = [smallest_safe(HeadRange(THREE_LEVELS.anchors, THREE_LEVELS.strides, size, 80), 0.65) for size in sizes]
    assert None not in safe and safe == sorted(value for value in safe if value is not None)


GOOD: Dict[str, Any] = {"anchors": [[[10, 12]]], "strides": [8], "image_size": (64, 64), "classes": 2}


@pytest.mark.parametrize(
    ("change", "sentence"),
    [
        ({"anchors": [[10, 12]]}, "are not a head"),
        ({"strides": [8, 16]}, "are not a head"),
        ({"anchors": [[[10, 0]]]}, "positive and finite"),
        ({"image_size": (64, -64)}, "positive and finite"),
        ({"classes": 0}, "at least one class"),
    ],
)
def test_heads_that_cannot_be_are_refused(change: Dict[str, Any], sentence: str) -> None:
    with pytest.raises(InputError, match=sentence):
        HeadRange(**{**GOOD, **change})


@pytest.mark.parametrize("max_wh", [-1, float("nan"), float("inf")])
def test_offsets_that_cannot_be_are_refused(max_wh: float) -> None:
    with pytest.raises(InputError, match="max_wh must be a finite number"):
        judge(THREE_LEVELS, max_wh, 0.45)
