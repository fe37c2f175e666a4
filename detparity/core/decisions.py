"""Decisions inside a network, as plain data: what a file chose from which numbers, and whether that is a legal choice within noise.

docs/any_detector.md says what is certified. Only indices cross over from a file to its model, never values.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Optional, Tuple

import numpy as np


@dataclass(frozen=True)
class Choice:
    """What a file chose. node: where; scores: what it chose from, all of them; indices: along `axis`, as it gave them."""

    node: str
    scores: np.ndarray
    indices: np.ndarray
    axis: int


@dataclass(frozen=True)
class Forced:
    """A choice that a run of the model was given. operator: of the model; scores: what the model itself read there; largest: whether
    the model takes the largest of them."""

    node: str
    operator: str
    scores: np.ndarray
    largest: bool = True


def breach(scores: np.ndarray, choice: Choice, margin: float, largest: bool = True) -> Optional[Tuple[int, int, float]]:
    """Whether a choice is illegal: (index chosen, index left out, by how much the second is better), the worst; None where no
    candidate left out beats one that was chosen by more than `margin`.

    scores: what the model read, in the shape of the file's; indices count along `choice.axis`.
    """
    shaped: np.ndarray = np.moveaxis(scores.reshape(choice.scores.shape), choice.axis, -1)
    moved: np.ndarray = shaped.reshape(-1, shaped.shape[-1])
    indices = (
        np.moveaxis(choice.indices, choice.axis, -1) if choice.indices.ndim == choice.scores.ndim else choice.indices
    )
    indices = indices.reshape(len(moved), -1)
    worst: Optional[Tuple[int, int, float]] = None
    for row, chosen in zip(moved if largest else -moved, indices):
        if chosen.size and (chosen.min() < 0 or chosen.max() >= len(row) or len(set(chosen.tolist())) < chosen.size):
            return int(chosen[0]), int(chosen[0]), float("inf")
        left = np.ones(len(row), bool)
        left[chosen] = False
        if not left.any() or not chosen.size:
            continue
        lowest = int(chosen[np.argmin(row[chosen])])
        highest = int(np.flatnonzero(left)[np.argmax(row[left])])
        by = float(row[highest] - row[lowest])
        if by > margin and (worst is None or by > worst[2]):
            worst = (lowest, highest, by)
    return worst
