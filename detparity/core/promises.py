"""What an exporter was asked for, as plain data: of a captured export call, or nothing where a file is all there is."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any, Mapping, Optional, Sequence, Tuple

import numpy as np

OPEN = "Dim.AUTO"  # the symbol of an axis that the exporter may fix or leave open, as it finds


@dataclass(frozen=True)
class Promises:
    """source: who promised it, for the report. inputs, outputs: names in order, empty where none were asked for; dynamic: by tensor,
    axis to symbol, None where it is not known what was asked; opset: None where none was asked for; shape: of the example input;
    written: how many outputs the exporter's own file has, 0 where that is not known; others: what it was given beside the image, in
    order."""

    source: str = ""
    inputs: Tuple[str, ...] = ()
    outputs: Tuple[str, ...] = ()
    dynamic: Optional[Mapping[str, Mapping[int, str]]] = None
    opset: Optional[int] = None
    shape: Tuple[int, ...] = ()
    written: int = 0
    metadata: Mapping[str, str] = field(default_factory=dict)
    others: Tuple[np.ndarray, ...] = ()

    def varying(self, tensor: str) -> Mapping[int, str]:
        """The axes of a tensor that were asked to vary, with their symbols."""
        return {axis: symbol for axis, symbol in (self.dynamic or {}).get(tensor, {}).items() if symbol != OPEN}

    def beside(self, batch: int) -> Tuple[np.ndarray, ...]:
        """The same for a batch of so many images."""
        return tuple(of_batch(value, self.shape, batch) for value in self.others)


def of_batch(value: Any, image: Sequence[int], batch: int) -> Any:
    """An array or tensor for so many images, where its first axis is that of a batch as the example's image has it: its rows again."""
    rows = image[0] if len(image) == 4 else None
    fits = value.ndim > 0 and rows is not None and value.shape[0] == rows and batch != rows
    return value[[k % rows for k in range(batch)]] if fits and rows else value
