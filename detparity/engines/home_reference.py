"""A detector of the home family as the reference of a runtime's own file, whose outputs are judged as those of any detector."""

from __future__ import annotations

from typing import Any, Dict

import numpy as np

from detparity.core.vocabulary import Size
from detparity.engines import eager
from detparity.models.reference import EXACT, CannotRunReference, ReferenceFacts


class HomeReference:
    """See `models.reference.Reference`. size: of the example; raw: whether the file gives the logits of each level."""

    def __init__(self, detector: Any, size: Size, raw: bool = False) -> None:
        self._detector, self._raw = detector, raw
        about = detector.facts
        self._facts = ReferenceFacts(
            about.name,
            about.digest,
            (1, 3, *size),
            eager.WAYS,
            "" if raw else "yolov5",
            about.names,
        )

    @property
    def facts(self) -> ReferenceFacts:
        return self._facts

    def run(self, how: str, images: np.ndarray) -> Dict[str, np.ndarray]:
        try:
            found = eager.prepare(self._detector, how if how != EXACT else "exact").call({"images": images})
        except RuntimeError as error:
            raise CannotRunReference(" ".join(str(error).split())[:300]) from None
        return {name: array for name, array in found.items() if name.startswith("logits") == self._raw}
