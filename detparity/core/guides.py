"""Why each check matters, what usually causes its finding, and how to fix it, as data (guides.toml beside this module).

It lies below checks and reports, since a terminal, a page and `detparity explain` all show it.
"""

from __future__ import annotations

import functools
import importlib
import sys
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Dict, Mapping, Optional, Tuple

# The exporters that an entry of `fixes` may be for, and how they are called.
EXPORTERS: Mapping[str, str] = {
    "ours": "detparity export",
    "yolov7": "yolov7's export.py",
    "ultralytics": "ultralytics",
    "torch": "plain torch",
}


@dataclass(frozen=True)
class Guide:
    """What to know of a check that failed. fix: one line for any exporter; fixes: more, by a key of `EXPORTERS`."""

    why: str
    causes: Tuple[str, ...]
    fix: str
    fixes: Mapping[str, str]


@functools.cache
def guides() -> Mapping[str, Guide]:
    """All guides, by the id of their check; a check of the home family and one of any detector of one id share it."""
    toml: Any = importlib.import_module("tomllib" if sys.version_info >= (3, 11) else "tomli")
    text = Path(__file__).with_name("guides.toml").read_text(encoding="utf-8")
    found: Dict[str, Guide] = {}
    for check, entry in toml.loads(text).items():
        fixes = entry.pop("fixes", {})
        found[check] = Guide(
            causes=tuple(entry.pop("causes")), fixes={key: fixes[key] for key in EXPORTERS if key in fixes}, **entry
        )
    return found


def fix_of(check: str, own: Optional[str] = None) -> str:
    """What to do about a finding of a check, in one line; own: what the finding itself states, empty where nothing need be done."""
    if own is not None:
        return own
    return guides()[check].fix if check in guides() else ""
