"""Runs of a model in half precision, for the noise of files that store it: which there are, and references that have them.

A run is called by its precision and how: "float16 rounded" (each operator in float32, its result rounded), the same with batch-norm
folded, or "float16" (the kernels that torch has).
"""

from __future__ import annotations

from dataclasses import replace
from typing import Any, Dict, Tuple

import numpy as np

from detparity.core.precision import HALVES
from detparity.models.reference import Reference, ReferenceFacts

ROUNDED, FOLDED = " rounded", " rounded, folded"


def half_ways(precision: str) -> Tuple[str, ...]:
    """The runs of any module in this precision."""
    return (precision + ROUNDED, precision + FOLDED, precision)


def half_of(how: str) -> str:
    """The precision of a run by its name; empty for one in float32 or float64."""
    first = how.split(" ", 1)[0].rstrip(",")
    return first if first in HALVES else ""


class HalfReference:
    """A reference as what files of half precision are judged against: exact as before, its noise that of this precision. See
    `models.reference.Reference`."""

    def __init__(self, reference: Reference, precision: str) -> None:
        self._reference, self._precision = reference, precision

    def __getattr__(self, name: str) -> Any:
        return getattr(self._reference, name)

    @property
    def facts(self) -> ReferenceFacts:
        return replace(self._reference.facts, ways=half_ways(self._precision))

    def run(self, how: str, images: np.ndarray) -> Dict[str, np.ndarray]:
        return self._reference.run(how, images)
