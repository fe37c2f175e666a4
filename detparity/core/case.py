"""Cases: the runs of a check, the space they are drawn from, and the types of what draws and judges them."""

from __future__ import annotations

from dataclasses import dataclass
from typing import (
    Callable,
    Optional,
    Sequence,
    Tuple,
)

import numpy as np

from detparity.core.findings import Finding
from detparity.core.vocabulary import Picture, Size


def called(picture: Picture) -> str:
    """A picture as reports call it: kind and seed, and a file of the user's by its name, which a digest follows in its kind."""
    kind, seed = picture
    return kind.rpartition("#")[0] if "#" in kind else f"{kind} {seed}"


@dataclass(frozen=True)
class Case:
    """One run: an image size (height, width) and the pictures (kind, seed) in the slots of the batch."""

    size: Size
    pictures: Tuple[Picture, ...]

    def __str__(self) -> str:
        inside = ", ".join(map(called, self.pictures))
        return f"({len(self.pictures)}, 3, {self.size[0]}, {self.size[1]}) of {inside}"


@dataclass(frozen=True)
class Space:
    """Cases to try: `always` in order, then `draws` drawn from these sizes (multiples of `stride` from `least` to `most`, each
    side on its own, or `only` one size), batch sizes and picture kinds. A quick run tries the first of `always` alone."""

    always: Tuple[Case, ...]
    draws: int = 0
    stride: int = 32
    least: int = 32
    most: int = 320
    only: Optional[Size] = None
    batches: Tuple[int, int] = (1, 1)
    kinds: Tuple[str, ...] = ("noise", "natural", "scene")


Judge = Callable[[Case], Sequence[Finding]]


Explorer = Callable[[Space, Judge], Sequence[Finding]]


# (images, classes, side in pixels, score threshold, draws, judge of (B, rows, 5 + classes) predictions) -> findings
BoxExplorer = Callable[
    [Tuple[int, int], int, int, float, int, Callable[[np.ndarray], Sequence[Finding]]], Sequence[Finding]
]
