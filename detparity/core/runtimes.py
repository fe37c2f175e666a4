"""The files of other runtimes: which runtime reads a path, and which files it is made of. Decided with the standard library alone."""

from __future__ import annotations

import hashlib
from dataclasses import dataclass
from pathlib import Path
from typing import List, Optional, Tuple

from detparity.core.files import sha256

OPENVINO, NCNN, LITERT, EXECUTORCH, MNN = RUNTIMES = ("openvino", "ncnn", "litert", "executorch", "mnn")
CALLED = {
    OPENVINO: "an OpenVINO model",
    NCNN: "an ncnn model",
    LITERT: "a TensorFlow Lite file",
    EXECUTORCH: "an ExecuTorch program",
    MNN: "an MNN model",
}
HEAD_BYTES, MOST_ENTRIES = 4096, 1000
DESCRIBING = (".xml", ".param", ".tflite", ".mnn")  # of the file that is opened, in a folder
_NCNN_MAGIC = b"7767517"


@dataclass(frozen=True)
class RuntimeFiles:
    """runtime: one of `RUNTIMES`; files: the one that is opened, then its weights, where they are a file of their own."""

    runtime: str
    files: Tuple[Path, ...]


def runtime_files(path: Path) -> Optional[RuntimeFiles]:
    """What a path is to a runtime of `RUNTIMES`, by its content; None where it is to none. A folder with several models is none."""
    if path.is_dir():
        found = [one for one in map(_of_file, _described(path)) if one is not None]
        return found[0] if len(found) == 1 else None
    return _of_file(path) if path.is_file() else None


def _described(folder: Path) -> List[Path]:
    try:
        names = sorted(entry for _, entry in zip(range(MOST_ENTRIES), folder.iterdir()))
    except OSError:
        return []
    return [one for one in names if one.suffix.lower() in DESCRIBING and not one.name.startswith(".")]


def _of_file(path: Path) -> Optional[RuntimeFiles]:
    try:
        with path.open("rb") as stream:
            head = stream.read(HEAD_BYTES)
    except OSError:
        return None
    if head[4:8] == b"TFL3":
        return RuntimeFiles(LITERT, (path,))
    if head[4:6] == b"ET" and head[6:8].isdigit():
        return RuntimeFiles(EXECUTORCH, (path,))
    if path.suffix.lower() == ".mnn" and _is_flatbuffer(head):
        return RuntimeFiles(MNN, (path,))
    runtime = NCNN if head.startswith(_NCNN_MAGIC) else OPENVINO if b"<net " in head and path.suffix == ".xml" else ""
    weights = path.with_suffix(".bin")
    return RuntimeFiles(runtime, (path, weights)) if runtime and weights.is_file() else None


def _is_flatbuffer(head: bytes) -> bool:
    """Whether it may be one: those of MNN have no identifier, and begin with where their table is."""
    return len(head) >= 8 and 4 <= int.from_bytes(head[:4], "little") < HEAD_BYTES


def digest(path: Path) -> str:
    """SHA-256 of a file; of a runtime's own files that of theirs, one after the other."""
    found = runtime_files(path)
    if found is None or len(found.files) == 1:
        return sha256(path if found is None else found.files[0])
    return hashlib.sha256("".join(map(sha256, found.files)).encode()).hexdigest()
