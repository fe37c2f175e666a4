"""What a shim is, which there are, and the switch that turns them off.

A shim is one file of this folder with `SHIM`, the functions that replace torch's own, and `probe()`, its smallest realistic use,
which raises where the shim is missing and needed. `tests/models/compat/test_shims.py` holds every shim to what its `SHIM` says.
"""

from __future__ import annotations

import importlib
import os
import pkgutil
from dataclasses import dataclass
from types import ModuleType
from typing import Dict, Mapping, Tuple

SWITCH = "DETPARITY_BARE"  # "all", or names separated by commas


@dataclass(frozen=True)
class Need:
    """when: a condition on facts (versions by name); breaks: what `probe` says there without the shim, as a pattern on
    `ErrorType: text` from its start."""

    when: Mapping[str, str]
    breaks: str


@dataclass(frozen=True)
class Shim:
    """needs: where it is needed, and how that shows; without: the same as text; until: when it can be removed."""

    needs: Tuple[Need, ...]
    without: str
    until: str


def bare(name: str) -> bool:
    """Whether the shim in the file `name` is switched off, so that its functions do what code without a shim would do."""
    off = os.environ.get(SWITCH, "")
    return off == "all" or name in off.split(",")


def registry() -> Dict[str, ModuleType]:
    """Every shim's module by its name."""
    from detparity.models import compat as package

    modules = {
        found.name: importlib.import_module(f"detparity.models.compat.{found.name}")
        for found in pkgutil.iter_modules(package.__path__)
    }
    return {name: module for name, module in sorted(modules.items()) if hasattr(module, "SHIM")}
