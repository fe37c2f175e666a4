"""Versions of a captured file between its export and the end: copies, and what made each."""

from __future__ import annotations

import os
import shutil
from dataclasses import dataclass
from pathlib import Path
from typing import Any, List, Optional

from detparity.artifacts.external_data import beside

MOST = 6  # copies of the versions of one file, the earliest


@dataclass(frozen=True)
class Version:
    """path: a copy of the file; how: a clause with "it", as in "torch.onnx.export wrote it"."""

    path: Path
    how: str


def new_folder(scratch: Path) -> Path:
    folder = scratch / str(len(os.listdir(scratch)))
    folder.mkdir()
    return folder


def copied(path: Path, folder: Path) -> Path:
    """A copy of a file and of what holds its tensors."""
    for source in (path, *beside(path)):
        if source.is_file():
            shutil.copyfile(source, folder / source.name)
    return folder / path.name


def step(result: Any, how: str, scratch: Path) -> Optional[Version]:
    """The ONNX model that a tool returned, alone or as the first of a tuple; None for anything else."""
    model = result[0] if isinstance(result, tuple) and result else result
    if not hasattr(model, "SerializeToString"):
        return None
    try:
        content = model.SerializeToString()
    except Exception:  # larger than protobuf allows
        return None
    path = new_folder(scratch) / "model.onnx"
    path.write_bytes(content)
    return Version(path, f"{how} left it")


def written_again(path: Path, before: List[Version], scratch: Path) -> Version:
    """A copy of a file that is about to be written over."""
    count = 2 + sum("was written" in one.how for one in before)
    ordinal = {2: "second", 3: "third"}.get(count, f"{count}th")
    return Version(copied(path, new_folder(scratch)), f"it was written the {ordinal} time")
