"""torch.load of complete pickled modules, for files whose author is trusted. detparity's own commands never call it."""

from __future__ import annotations

import inspect
import io
from pathlib import Path
from typing import Any, Dict, Union

import torch

from detparity.models.compat.pickler import save
from detparity.models.compat.shims import Need, Shim, bare

SHIM = Shim(
    needs=(
        Need({"torch": ">=2.4,<2.6"}, r"FutureWarning: You are using `torch\.load` with `weights_only=False`"),
        Need({"torch": ">=2.6"}, r"UnpicklingError: Weights only load failed"),
    ),
    without="torch refuses a pickled model from 2.6 on and warns in 2.4 and 2.5; giving `weights_only` always breaks torch up to 1.12",
    until="torch 1.12 is no longer supported: then `weights_only=False` can always be given",
)


def load_trusted(source: Union[str, Path, io.BytesIO]) -> Any:
    """Unpickle the file on the CPU, running whatever it names: only for files you made."""
    keywords: Dict[str, Any] = {"map_location": "cpu"}
    if not bare("torch_load") and "weights_only" in inspect.signature(torch.load).parameters:
        keywords["weights_only"] = False
    return torch.load(source, **keywords)


def probe() -> None:
    archive = io.BytesIO()
    save(torch.nn.ReLU(), archive)
    archive.seek(0)
    load_trusted(archive)
