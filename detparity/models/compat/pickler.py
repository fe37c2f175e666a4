"""torch.save where the interpreter's C pickler has read-only attributes."""

from __future__ import annotations

import io
import pickle
from pathlib import Path
from types import ModuleType
from typing import Any, Union

import torch

from detparity.models.compat.shims import Need, Shim, bare

SHIM = Shim(
    needs=(Need({"python": "==3.13.0", "torch": "<2.6"}, r"AttributeError: .*persistent_id.*read-only"),),
    without="torch.save raises: it sets `persistent_id` on a pickler that CPython 3.13.0 made read-only",
    until="Python 3.13.0 is no longer supported",
)


class _Pickler(pickle.Pickler):
    """A plain subclass: its instances take attributes."""


def _module() -> ModuleType:
    """A stand-in for the module `pickle` whose Pickler takes attributes."""
    module = ModuleType("pickle")
    module.__dict__.update(vars(pickle), Pickler=_Pickler)
    return module


def save(content: Any, target: Union[str, Path, io.BytesIO], **options: Any) -> None:
    """torch.save(content, target, **options)."""
    if bare("pickler"):
        torch.save(content, target, **options)
    else:
        torch.save(content, target, pickle_module=_module(), **options)


def probe() -> None:
    save({"weight": torch.zeros(2)}, io.BytesIO())
