"""How far the candidates of one call may be off those of a node and be found again: the measurement behind `suppressed.NEAR`."""

from __future__ import annotations

import time

import numpy as np
import pytest

from detparity.core.decisions import SUPPRESSION, Choice
from detparity.oracle import suppressed

pytestmark = pytest.mark.slow
CLASSES, LEVELS = (1e-7, 1e-6, 1e-5, 1e-4, 1e-3), (2_000, 10_000, 50_000)


def _node(rng, count):
    """Boxes of a detector: sides over two decades, scores of which most are low; classes moved apart."""
    low, side = rng.uniform(0, 640, (count, 2)), np.exp(rng.uniform(np.log(4), np.log(400), (count, 2)))
    boxes, kinds = np.concatenate([low, low + side], 1), rng.integers(0, 10, count)
    return boxes, rng.beta(0.5, 4, count), kinds


@pytest.mark.parametrize("count", LEVELS)
def test_noise_by_which_candidates_are_found_again(count):
    rng = np.random.default_rng(0)
    boxes, scores, kinds = _node(rng, count)
    choice = Choice(
        "n", scores[None, None], np.zeros((0, 3), int), 0, SUPPRESSION, (boxes + 1000 * kinds[:, None])[None]
    )
    own = np.flatnonzero(kinds == 3)
    for noise in CLASSES:
        errors = rng.standard_normal((len(own), 5)) * noise * np.array([*[np.ptp(boxes)] * 4, 1.0])
        start = time.perf_counter()
        found = suppressed._part(choice, boxes[own] + errors[:, :4], scores[own] + errors[:, 4])
        seconds = time.perf_counter() - start
        right = 0.0 if found is None else float((found == own).mean())
        print(
            f"{count} candidates, {len(own)} read, noise {noise:g} of the spread: {right:.4f} found right, {seconds:.2f} s"
        )
        assert noise > 1e-5 or right > 0.999
