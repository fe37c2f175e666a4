"""The power of a verdict: the smallest error in a weight that it would have seen on this very model."""

from __future__ import annotations

from contextlib import contextmanager
from typing import Any, Dict, Iterator, List, Mapping, Tuple

import numpy as np
import torch

from detparity.core.vocabulary import Picture, Size
from detparity.engines import eager
from detparity.engines.reference_runs import Oracle
from detparity.inputs import images
from detparity.models.yolov7.detector import official_key, run_order
from detparity.oracle.noise_floor import STATISTICS, Key, Stats, Truth, count_of, limit, measure, split_levels

STEP = 1e-3  # relative: well above the noise, and small enough to act linearly


def _picked(detector: Any, most: int) -> List[str]:
    modules = dict(detector.network.named_modules())
    order = [path for path in run_order(detector.network) if isinstance(modules[path], torch.nn.Conv2d)]
    return [order[k] for k in np.unique(np.linspace(0, len(order) - 1, min(most, len(order))).round().astype(int))]


def _reach(truth: Truth, found: Mapping[Key, Stats]) -> float:
    """The largest statistic as a share of its limit."""
    return max(
        getattr(stats, name) / getattr(truth.floor[key], name) / limit(name, count_of(truth, key))
        for key, stats in found.items()
        for name in STATISTICS
    )


@contextmanager
def _scaled(weight: torch.Tensor, factor: float) -> Iterator[None]:
    """A weight scaled for a while, and afterwards what it was to the bit."""
    before = weight.detach().clone()
    try:
        with torch.no_grad():
            weight.mul_(factor)
        yield
    finally:
        with torch.no_grad():
            weight.copy_(before)


def scores_of(rows: np.ndarray) -> np.ndarray:
    """(rows, classes) scores of decoded predictions: objectness by class, or objectness alone where there is one class."""
    return rows[:, 4:5] * rows[:, 5:] if rows.shape[1] > 6 else rows[:, 4:5]


def smallest_detected(
    detector: Any,
    shown: Tuple[Picture, Size],
    rows: np.ndarray,
    allowed: Tuple[np.ndarray, np.ndarray, float],
    most: int = 3,
) -> Dict[str, float]:
    """The same, for detections: what would just move a box or a score of one of these candidates by more than is allowed.

    shown: a picture and its size; rows: candidates of the truth; allowed: their numbers, pixels for each, and a score.
    """
    numbers, pixels, score = allowed
    (kind, seed), size = shown
    feed = {"images": images.make(kind, size, seed)[None]}
    modules = dict(detector.network.named_modules())
    runner = eager.prepare(detector, "onednn")
    found: Dict[str, float] = {}
    for path in _picked(detector, most):
        with _scaled(modules[path].weight, 1.0 + STEP):
            run = runner.call(feed)["predictions"][0][numbers].astype(np.float64)
        moved = np.abs(run[:, :2] - rows[:, :2]) + np.abs(run[:, 2:4] - rows[:, 2:4]) / 2
        scores = np.abs(scores_of(run) - scores_of(rows))
        reach = max(float((moved.max(1) / pixels).max()), float(scores.max()) / score)
        found[official_key(detector.network, path) + ".weight"] = STEP / max(reach, 1e-30)
    return found


def smallest_seen(
    detector: Any, oracle: Oracle, head: str, shown: Tuple[Picture, Size], most: int = 3
) -> Dict[str, float]:
    """Relative error, by official weight name, that would just reach a limit on one picture at a size.

    One of `most` weight tensors, evenly spread in the order they run, is scaled at a time by 1 + `STEP`.
    """
    (kind, seed), size = shown
    truth = oracle.reported((kind, seed), size, head)
    feed = {"images": images.make(kind, size, seed)[None]}
    found: Dict[str, float] = {}
    modules = dict(detector.network.named_modules())
    runner = eager.prepare(detector, "onednn")
    for path in _picked(detector, most):
        with _scaled(modules[path].weight, 1.0 + STEP):
            run = runner.call(feed)
        names = ["predictions"] if head == "grid" else [name for name in run if name != "predictions"]
        outputs = {name: run[name] for name in names}
        reach = _reach(truth, measure(truth.levels, split_levels(head, detector.facts, size, outputs, 0)))
        found[official_key(detector.network, path) + ".weight"] = STEP / max(reach, 1e-30)
    return found
