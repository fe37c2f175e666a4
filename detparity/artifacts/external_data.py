"""The files beside an ONNX file that hold its tensors."""

from __future__ import annotations

from pathlib import Path
from typing import List, Set

MOST_BYTES = 64 << 20  # a file that keeps its tensors elsewhere is small


def beside(path: Path) -> List[Path]:
    """Where an ONNX file keeps tensors outside itself; empty for any other file, and for one that cannot be read."""
    if path.suffix != ".onnx" or not path.is_file() or path.stat().st_size > MOST_BYTES:
        return []
    import onnx

    try:
        graph = onnx.load(str(path), load_external_data=False).graph
    except Exception:  # it is reported where it is opened
        return []
    names: Set[str] = {
        entry.value for tensor in graph.initializer for entry in tensor.external_data if entry.key == "location"
    }
    return [path.parent / name for name in sorted(names)]
