"""Where the kit lies: conftest, suites, exporters and golden. The clone's root, or `detparity/_kit/` in an installed wheel."""

from __future__ import annotations

import importlib
import sys
from pathlib import Path
from typing import Any


def root() -> Path:
    """The folder that holds `suites/` and `exporters/`."""
    package = Path(__file__).resolve().parent
    installed = package / "_kit"
    return installed if installed.is_dir() else package.parent


def exporters() -> Any:
    """The exporters package of the kit; puts the kit's root on the path of this process only."""
    place = str(root())
    if place not in sys.path:
        sys.path.insert(0, place)
    return importlib.import_module("exporters")
