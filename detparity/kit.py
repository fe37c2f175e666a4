"""Where the kit lies: conftest, suites, exporters and golden. The clone's root, or `detparity/_kit/` in an installed wheel."""

from __future__ import annotations

import importlib
import sys
from pathlib import Path
from typing import Any


def root() -> Path:
    """The folder that holds `suites/` and `exporters/`."""
    package = Path(__file__).resolve().parent
    return package / "_kit" if installed() else package.parent


def installed() -> bool:
    """Whether the kit is an installed wheel's, where nothing is written."""
    return (Path(__file__).resolve().parent / "_kit").is_dir()


def exporters() -> Any:
    """The exporters package of the kit; puts the kit's root on the path of this process only."""
    place = str(root())
    if place not in sys.path:
        sys.path.insert(0, place)
    return importlib.import_module("exporters")
