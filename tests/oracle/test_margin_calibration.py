"""Where the constants of the margins come from: how far apart equal and other decisions read, and what float32 does to overlaps."""

from __future__ import annotations

import numpy as np
import pytest

from detparity.core.decisions import NEAR, SUPPRESSION, Forced, apart
from detparity.oracle import suppressed
from detparity.oracle.boxes import iou, iou_bounds

IOU, NOISE = 0.5, 1e-4
MARGIN = 2.0  # decided.MARGIN
FEW = suppressed.FEW


def _bfloat16(values):
    bits = values.astype(np.float32).view(np.uint32)
    return ((bits + 0x8000) & 0xFFFF0000).astype(np.uint32).view(np.float32).astype(np.float64)


@pytest.mark.parametrize("count", [16, 300, 8400])
def test_decisions_that_read_the_same_are_told_from_others(count):
    """`NEAR` lies between numbers of the lowest precision and those of another decision, each drawn as a detector's logits."""
    rng = np.random.default_rng(count)
    draws = [rng.normal(-4.0, rng.uniform(0.5, 2.0), (2, count)) for _ in range(200)]
    draws += [1 / (1 + np.exp(-logits)) for logits in draws]
    same = max(apart(_bfloat16(one), one) for one, _ in draws)
    other = min(apart(other, one) for one, other in draws)

    print(
        f"\n{count} numbers: in bfloat16 at most {same:.4f} of the spread apart, another decision at least {other:.4f}"
    )
    assert same < NEAR < other


def _pairs(rng, count, near):
    """Boxes in pairs, each far from the others, that overlap within `near` of the threshold; and a function that evaluates them."""
    low = np.stack([np.arange(count) * 100.0, np.zeros(count)], 1)
    side = rng.uniform(8, 40, (count, 2))
    over = IOU + rng.uniform(-near, near, count)
    one = np.concatenate([low, low + side], 1)
    other = one.copy()
    other[:, 2] = low[:, 0] + side[:, 0] * over  # half as wide in the same corner
    boxes = np.stack([one, other], 1).reshape(-1, 4)
    return boxes, lambda: boxes + rng.uniform(-1, 1, boxes.shape) * NOISE


def _forced(boxes):
    held = np.arange(len(boxes))
    return Forced("n", "nms", np.ones(len(boxes)), kind=SUPPRESSION, call=1, boxes=boxes, indices=held, threshold=IOU)


def _exceeded(rng, count, near):
    """How many of twenty evaluations move an overlap at the threshold by more than the margin that another one gives; that margin."""
    boxes, evaluated = _pairs(rng, count, near)
    move = MARGIN * suppressed.overlap_move(_forced(boxes), _forced(evaluated()))
    tied, again = _pairs(rng, 1, 0.0)
    low, high = iou_bounds(*tied, np.array(move), np.array(move))
    found = [float(iou(*again())) for _ in range(20)]
    return sum(not low <= one <= high for one in found), move


@pytest.mark.slow
@pytest.mark.parametrize("count", [3, 10, FEW, 60])
def test_overlaps_that_a_margin_rests_on(count, monkeypatch):
    """Few pairs estimate what float32 does to overlaps poorly: below `FEW` the corners' own move is the margin."""
    monkeypatch.setattr(suppressed, "FEW", 1)
    rng = np.random.default_rng(count)
    results = [_exceeded(rng, count, suppressed.NEAR_OVERLAP) for _ in range(300)]
    exceeded, moves = sum(one for one, _ in results), [move / NOISE for _, move in results]
    print(
        f"\n{count} pairs: {exceeded} of {20 * 300} beyond the margin, which is {min(moves):.2f} to {max(moves):.2f} moves of a corner"
    )
    assert count < FEW or not exceeded


@pytest.mark.slow
def test_how_near_the_threshold_makes_no_difference():
    """Of what a move could do at the most, float32 does the same to overlaps 0.02 and 0.2 from the threshold."""
    rng, found = np.random.default_rng(0), {}
    for near in (0.02, suppressed.NEAR_OVERLAP):
        moves = [_exceeded(rng, 60, near)[1] / NOISE for _ in range(200)]
        found[near] = float(np.median(moves))
    print("\n" + ", ".join(f"within {near:g}: {move:.2f} moves of a corner" for near, move in found.items()))
    assert found[0.02] == pytest.approx(found[suppressed.NEAR_OVERLAP], rel=0.1)
