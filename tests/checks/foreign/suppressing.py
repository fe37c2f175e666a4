"""Drawn detectors that suppress: candidates with planted near ties, in numpy; their "files" are other evaluations within noise.

The reference is forced and recorded as a torch module would be; what a file chose can be shown (`choices`) or not.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any, Dict, List, Sequence, Tuple

import numpy as np

from detparity.checks.foreign.truth import Asked, CaseTruth, ForeignOracle, exact_truth, grow
from detparity.core.case import Case
from detparity.core.decisions import SUPPRESSION, Choice, Forced
from detparity.core.layout import PRESETS
from detparity.models.reference import EXACT, ReferenceFacts
from detparity.oracle.boxes import iou
from detparity.oracle.suppressed import retained

IOU, CAP, EVERY = 0.5, 12, 40
NOISE_BOX, NOISE_SCORE = 1e-4, 1e-6
CASE = Case((64, 64), (("noise", 0),))
IMAGES = np.zeros((1, 3, 64, 64), np.float32)


def greedy(boxes: np.ndarray, scores: np.ndarray, order: np.ndarray) -> np.ndarray:
    held: List[int] = []
    for one in order[np.argsort(-scores[order], kind="stable")].tolist():
        if not held or not (iou(boxes[one], boxes[held]) > IOU).any():
            held.append(one)
    return np.array(held)


class Suppressing:
    """Boxes in pairs, every other of which overlaps by the threshold within noise; steps: to which the scores are rounded; crowded:
    every box has a neighbour a quarter of a pixel away of its score, which suppresses it or is suppressed."""

    def __init__(self, seed: int, steps: int = 0, crowded: bool = False) -> None:
        rng = np.random.default_rng(seed)
        low = rng.uniform(0, 40, (EVERY, 2))
        self.boxes = np.concatenate([low, low + rng.uniform(8, 20, (EVERY, 2))], 1)
        self.scores = rng.uniform(0.1, 0.9, EVERY)
        self.scores = np.round(self.scores * steps) / steps if steps else self.scores
        for k in range(0, EVERY, 4):  # half as wide as its neighbour, in the same corner: IoU 0.5
            one, wide = self.boxes[k], self.boxes[k, 2] - self.boxes[k, 0]
            self.boxes[k + 1] = [one[0], one[1], one[0] + wide * (IOU + rng.uniform(-1, 1) * NOISE_BOX / 20), one[3]]
        for k in range(2, EVERY, 8):  # the same score and place, within noise
            self.scores[k + 1] = self.scores[k] + (0 if steps else rng.uniform(-1, 1) * NOISE_SCORE)
            self.boxes[k + 1] = self.boxes[k] + rng.uniform(1, 2)
        if crowded:
            self.boxes = np.concatenate([self.boxes, self.boxes + rng.uniform(0.2, 0.3, (EVERY, 1))])
            self.scores = np.concatenate([self.scores, self.scores - 1e-7])
        self.seed, self.count = seed, len(self.scores)

    facts = ReferenceFacts("drawn", "", (1, 3, 64, 64), ("one", "two", "three"), "ultralytics-nms")

    def read(self, how: str) -> Tuple[np.ndarray, np.ndarray]:
        """Boxes and scores of an evaluation."""
        if how == EXACT:
            return self.boxes, self.scores
        rng = np.random.default_rng([self.seed, *how.encode()])
        noise = [rng.uniform(-1, 1, (self.count, 4)) * NOISE_BOX, rng.uniform(-1, 1, self.count) * NOISE_SCORE]
        return self.boxes + noise[0], self.scores + noise[1]

    def run(self, how: str, images: np.ndarray) -> Dict[str, np.ndarray]:
        return self.run_forced(how, images, ())[0]

    def run_forced(
        self, how: str, images: np.ndarray, choices: Sequence[Choice]
    ) -> Tuple[Dict[str, np.ndarray], List[Forced]]:
        boxes, scores = self.read(how)
        own = greedy(boxes, scores, np.arange(self.count))
        forced: List[Forced] = []
        for choice in choices[:1]:
            held = retained(choice, boxes, scores)
            assert held is not None
            same = np.array_equal(held, own)
            forced = [
                Forced(choice.node, "nms", scores, True, False, 0, same, SUPPRESSION, 1, boxes, held, IOU),
            ]
            own = held
        return {"output0": rows_of(boxes, scores, own)}, forced

    def decisions(self, images: np.ndarray) -> List[Choice]:
        return [chosen(*self.read(EXACT), greedy(*self.read(EXACT), np.arange(self.count)))]


def rows_of(boxes: np.ndarray, scores: np.ndarray, held: np.ndarray) -> np.ndarray:
    """(1, CAP, 6) rows of the first, with rows of nothing after them."""
    held = held[:CAP]
    found = np.zeros((1, CAP, 6))
    found[0, : len(held)] = np.concatenate([boxes[held], scores[held, None], np.ones((len(held), 1))], 1)
    return found


def chosen(boxes: np.ndarray, scores: np.ndarray, held: np.ndarray) -> Choice:
    indices = np.stack([np.zeros_like(held), np.zeros_like(held), held], 1)
    return Choice("/NMS", scores[None, None], indices, 0, SUPPRESSION, boxes[None], False, (IOU, -np.inf, 0))


@dataclass
class Judged:
    """What `parity` asks of a context, of a file that is already run. shown: what it chose, where that can be shown."""

    oracle: ForeignOracle
    outputs: Dict[str, np.ndarray]
    shown: Tuple[Choice, ...] = ()
    hidden: str = ""
    suppression: str = ""
    uncovered: Tuple[str, ...] = ()
    exact_outputs: Any = None
    layout: Any = PRESETS["ultralytics-nms"]
    truths: Dict[Any, CaseTruth] = field(default_factory=dict)

    def named(self, found: Any) -> Dict[str, np.ndarray]:
        return dict(found or {})

    def given(self, case: Case) -> np.ndarray:
        return IMAGES

    def predict(self, case: Case) -> Dict[str, np.ndarray]:
        return self.outputs

    def choices(self, case: Case, every: bool = False) -> Tuple[Choice, ...]:
        return self.shown if every else ()

    def _asked(self, choices: Tuple[Choice, ...]) -> Asked:
        return Asked(IMAGES, CASE, self.layout, self.named, choices)

    def truth(self, case: Case, choices: Tuple[Choice, ...] = ()) -> CaseTruth:
        key = tuple(one.indices.tobytes() for one in choices)
        if key not in self.truths:
            self.truths[key] = exact_truth(self.oracle, self._asked(choices))
        return self.truths[key]

    def grow(self, case: Case, truth: CaseTruth) -> bool:
        return grow(self.oracle, truth, self._asked(truth.choices))


def judged(model: Suppressing, boxes: np.ndarray, scores: np.ndarray, held: np.ndarray, shown: bool) -> Any:
    """The findings about a file that retains these of candidates that read so."""
    from detparity.checks.foreign.parity import compare

    outputs = {"output0": rows_of(boxes, scores, held)}
    context: Any = Judged(ForeignOracle(model), outputs, (chosen(boxes, scores, held),) if shown else ())
    return compare(context, CASE)
