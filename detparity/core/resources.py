"""Where the files beside the package are: suites, exporters and golden. The clone's root, or `detparity/_kit/` in a wheel."""

from __future__ import annotations

from pathlib import Path

PACKAGE = Path(__file__).resolve().parent.parent


def root() -> Path:
    """The folder that holds `suites/`, `exporters/` and `golden/`."""
    return PACKAGE / "_kit" if installed() else PACKAGE.parent


def installed() -> bool:
    """Whether this is an installed wheel, where nothing is written."""
    return (PACKAGE / "_kit").is_dir()
