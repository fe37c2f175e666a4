"""What the exporter of ultralytics stores beside a TorchScript program."""

from __future__ import annotations

from pathlib import Path
from typing import Mapping

from detparity.artifacts.metadata import script_metadata
from detparity.core.torch_archive import BROKEN_ZIP, Refused, open_zip

MEMBER = "/extra/config.txt"
LONGEST = 1 << 20  # bytes of it that are read


def config(path: Path) -> Mapping[str, str]:
    """The metadata of an archive, as text; empty where there is none that can be read: opening the file says what is wrong with it."""
    try:
        with open_zip(path) as archive:
            name = next((one for one in archive.namelist() if one.endswith(MEMBER)), "")
            if not name:
                return {}
            with archive.open(name) as opened:
                return script_metadata(opened.read(LONGEST).decode(errors="replace"))
    except (*BROKEN_ZIP, Refused):
        return {}
