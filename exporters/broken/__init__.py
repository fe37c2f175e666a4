"""Planted defects, one a file: what the suite must turn red, and by which check; and controls, which must stay green.

A file `NAME.py` holds
- CAUGHT_BY: ids of the checks that must all turn red; empty for a control, which every check must let pass;
- VARIANT: the variant the file claims to be; HEAD: its head where VARIANT is TorchScript, default "grid";
- `plant(model) -> model`, which edits a good ONNX export of VARIANT, or `export(detector, variant, options) -> bytes`;
- where it says more: LEVEL of the findings, default "MUST"; UNSEEN_BY: checks that must pass, which shows that the named one is
  needed; SAYS: words the findings must hold; SIZE: height and width of the export; WHERE: versions whose good export has the
  form it edits.
Its docstring names the defect in one sentence and where it was seen: `museum` numbers are those of the project's collection of
reported export defects, "issue 2" is the list of defects the suite was asked to catch.
"""

from __future__ import annotations

import importlib
import inspect
import pkgutil
from dataclasses import dataclass
from types import ModuleType
from typing import Dict, Mapping, Optional, Tuple

import onnx

from detparity.detectors.detector import YoloDetector
from detparity.subject import Size, Variant, parse_variant
from exporters.options import ExportOptions

HELPERS = ("edits", "modules")


@dataclass(frozen=True)
class Broken:
    """One planted file. size: of the export, None where any will do; where: versions by fact, {} for all; the rest as the
    module says it."""

    name: str
    about: str
    caught_by: Tuple[str, ...]
    variant: Variant
    level: str
    unseen_by: Tuple[str, ...]
    says: str
    size: Optional[Size]
    where: Mapping[str, str]
    module: ModuleType

    def make(self, detector: YoloDetector, options: ExportOptions, good: bytes) -> bytes:
        """Return the whole file. good: the good export of the same variant, which `plant` edits."""
        if hasattr(self.module, "plant"):
            return bytes(self.module.plant(onnx.load_from_string(good)).SerializeToString())
        return bytes(self.module.export(detector, self.variant, options))


def registry() -> Dict[str, Broken]:
    """Every planted file by its name, controls included."""
    names = sorted(found.name for found in pkgutil.iter_modules(__path__) if found.name not in HELPERS)
    return {name: _read(name, importlib.import_module(f"{__name__}.{name}")) for name in names}


def _read(name: str, module: ModuleType) -> Broken:
    return Broken(
        name,
        inspect.getdoc(module) or "",
        tuple(module.CAUGHT_BY),
        parse_variant(module.VARIANT, getattr(module, "HEAD", "grid")),
        getattr(module, "LEVEL", "MUST"),
        tuple(getattr(module, "UNSEEN_BY", ())),
        getattr(module, "SAYS", ""),
        getattr(module, "SIZE", None),
        getattr(module, "WHERE", {}),
        module,
    )
