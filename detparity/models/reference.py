"""The protocol of a reference: what a model is, and how to run it in float64 and in float32, whatever the model.

Makers: `module_reference.py` for a torch module (a captured one, the user's own, one of an adapter), `graph_reference.py` for an
exported file that is its own model. The home family has an oracle of its own, `engines/reference_runs.py`.
"""

from __future__ import annotations

import json
from dataclasses import dataclass, field
from typing import Any, Dict, Mapping, Optional, Protocol, Tuple

import numpy as np

from detparity.core.errors import InputError
from detparity.core.layout import Preprocessing

PLAIN = Preprocessing()
EXACT = "exact"  # the run in float64


@dataclass(frozen=True)
class ReferenceFacts:
    """What a reference is, as plain data.

    title: what a verdict is "against"; digest of its weights; shape: of an example input, batch first where there is a batch axis;
    ways: names of its float32 ways; layout: name of its layout, empty where it is to be found from the file; names: of the classes;
    code: whether code of the user or of a foreign package ran to make it; notes: what a report has to say of it; anchors, strides: of
    a head of the home family, by level in pixels, where the model has one; image: the type of the image, as numpy spells it.
    """

    title: str
    digest: str
    shape: Tuple[int, ...]
    ways: Tuple[str, ...]
    layout: str = ""
    names: Tuple[str, ...] = ()
    preprocessing: Preprocessing = PLAIN
    code: bool = False
    notes: Tuple[str, ...] = ()
    model: bool = True  # False where a file's own graph stands in for its model
    anchors: Tuple[Tuple[Tuple[float, float], ...], ...] = ()
    strides: Tuple[float, ...] = ()
    image: str = "float32"


class Reference(Protocol):
    """A model that can be run. `run` takes what the model takes, an array of `facts.shape` or of another size or batch, and returns
    outputs by name, float64 for `EXACT`. Raises CannotRunReference where the model refuses the input."""

    @property
    def facts(self) -> ReferenceFacts: ...

    def run(self, how: str, images: np.ndarray) -> Dict[str, np.ndarray]: ...


class CannotRunReference(Exception):
    """The model refused an input, or has an operator that float64 has not; the text is its own reason, in one line."""


@dataclass(frozen=True)
class ModelRequest:
    """A model by the words of the command line. spec: `PKG.MOD:NAME`, `FILE.py:NAME` or `ADAPTER:NAME`; arguments: JSON of the
    factory's; size: (height, width) of the example; condition: whether batch-norm is set on noise, for random weights."""

    spec: str
    arguments: Optional[str] = None
    seed: int = 0
    size: Optional[Tuple[int, int]] = None
    condition: bool = False
    trust: bool = False

    def as_json(self) -> Mapping[str, object]:
        return dict(vars(self))


@dataclass(frozen=True)
class Arguments:
    """Arguments of a factory: a list, or keywords."""

    positional: Tuple[Any, ...] = ()
    keywords: Mapping[str, Any] = field(default_factory=dict)

    def __bool__(self) -> bool:
        return bool(self.positional or self.keywords)


def arguments(request: ModelRequest) -> Arguments:
    """The JSON of a request. Raises InputError for what is neither a list nor an object."""
    if request.arguments is None:
        return Arguments()
    try:
        found = json.loads(request.arguments)
    except ValueError as error:
        raise InputError(f"--model-args is no JSON: {error}") from None
    if isinstance(found, list):
        return Arguments(tuple(found))
    if isinstance(found, dict):
        return Arguments(keywords=found)
    raise InputError(f"--model-args is a {type(found).__name__}; it takes a list, or an object of keyword arguments")
