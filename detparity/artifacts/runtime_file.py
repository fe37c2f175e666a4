"""A file of another runtime as plain facts, as its engine reads them: inputs, outputs, and the precision of what it stores."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Tuple


@dataclass(frozen=True)
class Port:
    """An input or output as the file declares it. shape: -1 for an axis that varies, empty where none is declared; dtype: as numpy
    spells it; scale, zero: of a quantised one, 0 and 0 for any other."""

    name: str
    shape: Tuple[int, ...] = ()
    dtype: str = "float32"
    scale: float = 0.0
    zero: int = 0


@dataclass(frozen=True)
class RuntimeFile:
    """weights: the type that most stored numbers have; quantised: whether it computes in integers."""

    inputs: Tuple[Port, ...]
    outputs: Tuple[Port, ...]
    weights: str = "float32"
    quantised: bool = False
