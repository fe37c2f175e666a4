"""What is known of a TorchScript file, as plain data: read in the child process, used in ours."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Mapping, Optional, Tuple

import numpy as np

SUPPRESSION = "torchvision::nms"
METADATA_FILE = "detparity.json"  # the extra file of an archive that holds our metadata


@dataclass(frozen=True)
class Constant:
    """A tensor frozen into the module: its value, the source line the graph records, what reads it, and its path where it is an
    attribute of the module and no literal of the graph; kind: its type, where numpy has not that."""

    value: np.ndarray
    source: str
    readers: Tuple[str, ...]
    path: str = ""
    kind: str = ""


@dataclass(frozen=True)
class Written:
    """A size written into the graph as numbers: the operator that takes it, the numbers (None where one is computed), and the source
    line the graph records."""

    operator: str
    numbers: Tuple[Optional[int], ...]
    source: str


@dataclass(frozen=True)
class ScriptFile:
    """ops: operator counts of the inlined graph; devices: (device, source line) of every device constant; constants: tensors that
    are no parameters; state: parameters and buffers by path; training: whether it was saved in training mode; training_ops: operators
    recorded as they act in training; metadata: the text of our extra file, or empty; written: sizes that the graph has as
    numbers; types: of the state, where it is not float32; image: the type in which the module takes it; suppression: the numbers of
    its suppression, as `torchscript_suppression.numbers` has them."""

    ops: Mapping[str, int]
    devices: Tuple[Tuple[str, str], ...]
    constants: Tuple[Constant, ...]
    slopes: Tuple[float, ...]
    training_ops: Tuple[str, ...]
    state: Mapping[str, np.ndarray]
    training: bool
    metadata: str
    written: Tuple[Written, ...] = ()
    types: Mapping[str, str] = field(default_factory=dict)
    image: str = "float32"
    suppression: Mapping[str, float] = field(default_factory=dict)
