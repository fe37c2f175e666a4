"""A reference as what files of half precision are judged against: exact as before, its noise that of float16."""

from __future__ import annotations

from dataclasses import replace
from typing import Any, Dict

import numpy as np

from detparity.models.reference import Reference, ReferenceFacts

# Float16 ways: each operator in float32 with its result rounded, without and with batch-norm folded, and the kernels torch has.
ROUNDED, ROUNDED_FOLDED, KERNELS = "float16 rounded", "float16 rounded, folded", "float16"
HALF_WAYS = (ROUNDED, ROUNDED_FOLDED, KERNELS)


class HalfReference:
    """See `models.reference.Reference`. The reference has the ways of HALF_WAYS."""

    def __init__(self, reference: Reference) -> None:
        self._reference = reference

    def __getattr__(self, name: str) -> Any:
        return getattr(self._reference, name)

    @property
    def facts(self) -> ReferenceFacts:
        return replace(self._reference.facts, ways=HALF_WAYS)

    def run(self, how: str, images: np.ndarray) -> Dict[str, np.ndarray]:
        return self._reference.run(how, images)
