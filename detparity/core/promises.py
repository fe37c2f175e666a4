"""What an exporter was asked for, as plain data: of a captured export call, or nothing where a file is all there is."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Mapping, Optional, Tuple


@dataclass(frozen=True)
class Promises:
    """source: who promised it, for the report. inputs, outputs: names in order, empty where none were asked for; dynamic: by tensor,
    axis to symbol, None where it is not known what was asked; opset: None where none was asked for; shape: of the example input;
    written: how many outputs the exporter's own file has, 0 where that is not known."""

    source: str = ""
    inputs: Tuple[str, ...] = ()
    outputs: Tuple[str, ...] = ()
    dynamic: Optional[Mapping[str, Mapping[int, str]]] = None
    opset: Optional[int] = None
    shape: Tuple[int, ...] = ()
    written: int = 0
    metadata: Mapping[str, str] = field(default_factory=dict)
