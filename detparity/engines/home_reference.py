"""A detector of the home family as the reference of a runtime's own file, whose outputs are judged as those of any detector."""

from __future__ import annotations

import functools
from typing import Any, Dict, List, Sequence, Tuple

import numpy as np

from detparity.core.decisions import Choice
from detparity.core.vocabulary import Size
from detparity.engines import eager
from detparity.models.module_reference import Made, ModuleReference
from detparity.models.reference import EXACT, CannotRunReference, ReferenceFacts
from detparity.models.yolov7.network import Predictions

LAYOUT = "yolov5"  # of the predictions
LOGITS = "logits"


class HomeReference:
    """See `models.reference.Reference`. size: of the example; raw: whether the file gives the logits of each level."""

    def __init__(self, detector: Any, size: Size, raw: bool = False) -> None:
        self._detector, self._raw = detector, raw
        about = detector.facts
        layout = "" if raw else LAYOUT
        self._facts = ReferenceFacts(about.name, about.digest, (1, 3, *size), eager.WAYS, layout, about.names)

    @property
    def facts(self) -> ReferenceFacts:
        return self._facts

    @functools.cached_property
    def _module(self) -> ModuleReference:
        """What runs it in other ways than those of float32."""
        network = self._detector.network
        return ModuleReference(Made((network if self._raw else Predictions(network)).eval(), self._facts))

    def run(self, how: str, images: np.ndarray) -> Dict[str, np.ndarray]:
        if how != EXACT and how not in eager.WAYS:
            return self._module.run(how, images)
        try:
            found = eager.prepare(self._detector, how).call({"images": images})
        except RuntimeError as error:
            raise CannotRunReference(" ".join(str(error).split())[:300]) from None
        return {name: array for name, array in found.items() if name.startswith(LOGITS) == self._raw}

    def weights_read(self, images: np.ndarray) -> List[str]:
        """See `ModuleReference.weights_read`."""
        return self._module.weights_read(images)

    def run_scaled(
        self, how: str, weight: Tuple[str, float], images: np.ndarray, choices: Sequence[Choice] = ()
    ) -> Dict[str, np.ndarray]:
        """See `ModuleReference.run_scaled`."""
        return self._module.run_scaled(how, weight, images, choices)
