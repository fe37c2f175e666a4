"""Files that people hand over in place of a model: what each is by its first bytes, and what to do about it."""

from __future__ import annotations

import itertools
import json
import re
from pathlib import Path
from typing import AbstractSet, Callable, List, NamedTuple, Optional, Tuple

from detparity.core import protobuf


class Foreign(NamedTuple):
    """what: with its article, after "is"; advice: one clause, or empty; damaged: whether it is a model but for what it lost."""

    what: str
    advice: str
    damaged: bool = False


_ONNX_SOURCE = "give the ONNX file it was made from"
DOWNLOAD = "what was downloaded is not the file: download it again, and look at the page in a browser"
ONNX = Foreign("an ONNX file", "")

# Offset, bytes, what it is.
_MAGIC: Tuple[Tuple[int, bytes, Foreign], ...] = (
    (0, b"ftrt", Foreign("a TensorRT engine", f"an engine runs on the machine it was built for alone: {_ONNX_SOURCE}")),
    (0, b"ptrt", Foreign("a TensorRT engine", f"an engine runs on the machine it was built for alone: {_ONNX_SOURCE}")),
    (4, b"ORTM", Foreign("an ONNX Runtime file (.ort)", "give the .onnx file it was converted from")),
    (4, b"TFL3", Foreign("a TensorFlow Lite file", _ONNX_SOURCE)),
    (4, b"ET12", Foreign("an ExecuTorch program (.pte)", "give the ONNX or TorchScript export of the same model")),
    (0, b"RKNN", Foreign("a RKNN file", _ONNX_SOURCE)),
    (0, b"\x01HEF", Foreign("a Hailo file (.hef)", _ONNX_SOURCE)),
    (0, b"7767517\n", Foreign("an ncnn parameter file", _ONNX_SOURCE)),
    (0, b"7767517\r\n", Foreign("an ncnn parameter file", _ONNX_SOURCE)),
    (0, b"\x89HDF\r\n\x1a\n", Foreign("an HDF5 file, as Keras writes", "give the PyTorch file of the model")),
    (0, b"\x93NUMPY", Foreign("a numpy array file", "give the file of the model")),
    (0, b"\x1f\x8b", Foreign("a gzip archive", "unpack it first")),
    (0, b"BZh", Foreign("a bzip2 archive", "unpack it first")),
    (0, b"\xfd7zXZ\x00", Foreign("an xz archive", "unpack it first")),
    (0, b"7z\xbc\xaf\x27\x1c", Foreign("a 7z archive", "unpack it first")),
    (0, b"Rar!\x1a\x07", Foreign("a rar archive", "unpack it first")),
    (0, b"\x28\xb5\x2f\xfd", Foreign("a zstd archive", "unpack it first")),
    (257, b"ustar", Foreign("a tar archive", "unpack it first")),
    (0, b"%PDF-", Foreign("a PDF document", "give the file of the model")),
    (0, b"\x89PNG\r\n\x1a\n", Foreign("a PNG picture", "pictures go to --images, where a command takes them")),
    (0, b"\xff\xd8\xff", Foreign("a JPEG picture", "pictures go to --images, where a command takes them")),
    (0, b"\x7fELF", Foreign("a program or library for Linux", "give the file of the model")),
    (0, b"MZ\x90\x00", Foreign("a program for Windows", "give the file of the model")),
)
_POINTER = b"version https://git-lfs.github.com/spec/"
_POINTER_SIZE = re.compile(rb"^size (\d{1,18})$", re.MULTILINE)
_CONTROLS = bytes(set(range(32)) - set(b"\t\n\r\f\x1b"))
_TEXT_ENDINGS = (".yaml", ".yml", ".json", ".txt", ".py", ".toml", ".md", ".xml", ".cfg", ".names", ".csv", ".log")


def recognised(path: Path, head: bytes) -> Optional[Foreign]:
    """What a file that is no zip archive is, or None where its first bytes do not show it."""
    tests: Tuple[Callable[[Path, bytes], Optional[Foreign]], ...] = (
        *(_pointer, _magic, _page, _engine_with_metadata, _safetensors, _bare_pickle, _text, _protobuf),
        _by_ending,
    )
    for test in tests:
        found = test(path, head)
        if found is not None:
            return found
    return None


def _pointer(path: Path, head: bytes) -> Optional[Foreign]:
    if not head.startswith(_POINTER):
        return None
    size = _POINTER_SIZE.search(head)
    stated = f" to a file of {int(size[1])} bytes" if size else ""
    return Foreign(f"a Git LFS pointer{stated}", "fetch the file itself with 'git lfs pull'")


def _magic(path: Path, head: bytes) -> Optional[Foreign]:
    for offset, magic, found in _MAGIC:
        if head[offset : offset + len(magic)] == magic:
            return found
    return None


def _page(path: Path, head: bytes) -> Optional[Foreign]:
    start = head.lstrip(b"\xef\xbb\xbf \t\r\n")[:2048].lower()
    if not start.startswith(b"<"):
        return None
    if b"<net " in start or b"<net>" in start:
        return Foreign("an OpenVINO model description (.xml)", _ONNX_SOURCE)
    if start.startswith((b"<!doctype html", b"<html", b"<head", b"<body")) or b"<html" in start:
        return Foreign("a web page", DOWNLOAD)
    if b"<error>" in start or b"<code>" in start:
        return Foreign("the error message of a file server", DOWNLOAD)
    return Foreign("an XML text", "") if start.startswith(b"<?xml") else None


def _engine_with_metadata(path: Path, head: bytes) -> Optional[Foreign]:
    """Some exporters write the length of a JSON text and the text before an engine."""
    length = int.from_bytes(head[:4], "little")
    if head[4:5] == b"{" and 2 <= length < (1 << 20) and head[5:6] in (b'"', b"}") and _size(path) > 4 + length:
        return Foreign("a TensorRT engine with metadata before it", _MAGIC[0][2].advice)
    return None


def _safetensors(path: Path, head: bytes) -> Optional[Foreign]:
    length = int.from_bytes(head[:8], "little")
    if head[8:9] == b"{" and 2 <= length <= _size(path) - 8:
        return Foreign("a safetensors file", "give the checkpoint that torch.save wrote")
    return None


def _bare_pickle(path: Path, head: bytes) -> Optional[Foreign]:
    if len(head) > 2 and head[0] == 0x80 and head[1] in range(2, 6) and path.suffix in (".pkl", ".pickle", ".joblib"):
        return Foreign("a pickle that torch.save did not write", "save the model again with torch.save")
    return None


def _text(path: Path, head: bytes) -> Optional[Foreign]:
    """Text of any sort; a server's error is often a JSON text."""
    if any(code in head for code in _CONTROLS):
        return None
    try:
        text = head[:1024].decode("utf-8", "ignore" if len(head) > 1024 else "strict").lstrip("\ufeff \t\r\n")
    except UnicodeDecodeError:
        return None
    if text.startswith("{") and ('"error"' in text or '"message"' in text):
        return Foreign("the error message of a file server", DOWNLOAD)
    if path.suffix.lower() in _TEXT_ENDINGS or len(head) > 64 or b"\n" in head.rstrip():
        return Foreign("a text, not a model", "if it was downloaded, look into it: it may say why there is no file")
    return None


def _by_ending(path: Path, head: bytes) -> Optional[Foreign]:
    """Formats without a mark of their own, where the name says it."""
    ending = path.suffix.lower()
    if ending == ".weights" and len(head) > 20:
        return Foreign("a Darknet weights file", "convert it to a PyTorch checkpoint first")
    if ending == ".bin":
        return Foreign("a file of bare numbers (.bin), as OpenVINO and ncnn write beside a description", _ONNX_SOURCE)
    if ending in (".engine", ".plan", ".trt") and not head.startswith((b"\x08", b"\x0a")):
        return Foreign("no ONNX file, and named as a TensorRT engine", _MAGIC[0][2].advice)
    return None


# --- protobuf: ONNX, Core ML, TensorFlow

_ONNX_FIELDS = frozenset({1, 2, 3, 4, 5, 6, 7, 8, 14, 20, 25, 26})
_ONNX_GRAPH, _CORE_ML_MODELS = 7, range(200, 4000)
_MOST_FIELDS = 10_000


def _protobuf(path: Path, head: bytes) -> Optional[Foreign]:
    if head[0] not in (0x08, 0x0A, 0x12, 0x1A, 0x22, 0x28, 0x32, 0x3A, 0x42, 0x72):
        return None
    fields, complete = _fields(path)
    numbers = {number for number, _ in fields}
    if any(number in _CORE_ML_MODELS for number in numbers) or (
        path.suffix.lower() == ".mlmodel" and _ONNX_GRAPH not in numbers
    ):
        return Foreign("a Core ML model", _ONNX_SOURCE)
    if (_ONNX_GRAPH, protobuf.BYTES) in fields and numbers <= _ONNX_FIELDS:
        if complete:
            return ONNX
        return Foreign("an ONNX file cut short", "copy or download it again", True)
    if path.suffix.lower() in (".pb", ".pdmodel"):
        return Foreign("a TensorFlow or Paddle graph", "give the PyTorch file of the model, or its ONNX export")
    return None


def without_graph(path: Path) -> bool:
    """Whether a file is called an ONNX file, and holds no graph as far as it can be read."""
    return path.suffix.lower() == ".onnx" and (_ONNX_GRAPH, protobuf.BYTES) not in _fields(path)[0]


def _fields(path: Path) -> Tuple[List[Tuple[int, int]], bool]:
    """Number and wire type of the fields of a protobuf message as far as they are well formed, and whether the file ends with one."""
    found: List[protobuf.Field] = []
    size = _size(path)
    try:
        with path.open("rb") as stream:
            for one in itertools.islice(protobuf.fields(stream, 0, size), _MOST_FIELDS):
                found.append(one)
        complete = (found[-1].stop if found else 0) == size
    except (OSError, ValueError):
        complete = False
    return [(one.number, one.wire) for one in found], complete


def _size(path: Path) -> int:
    try:
        return path.stat().st_size
    except OSError:
        return 0


# --- zip archives and folders


def foreign_zip(members: AbstractSet[str]) -> Foreign:
    """What an archive without a pickle of torch is, from the names in it."""
    if any(name.endswith("serialized_exported_program.json") or name.startswith("models/") for name in members):
        return Foreign("a torch.export program (.pt2)", "give the ONNX or TorchScript export of the same model")
    if any(name.endswith(".mlmodel") for name in members):
        return Foreign("a Core ML package in a zip archive", _ONNX_SOURCE)
    if any(name.endswith(".npy") for name in members):
        return Foreign("a numpy archive (.npz)", "give the file of the model")
    if any(name.endswith((".pt", ".pth", ".onnx", ".torchscript")) for name in members):
        return Foreign("a zip archive around a model", "unpack it and give the file in it")
    if any(name.endswith("config.json") or name.endswith("keras_metadata.pb") for name in members):
        return Foreign("a Keras archive", "give the PyTorch file of the model")
    return Foreign("a zip archive that torch did not write (no data.pkl)", "")


def foreign_folder(path: Path) -> Optional[Foreign]:
    """What a folder is that some exporters make in place of a file."""
    try:
        names = {entry.name for _, entry in zip(range(1000), path.iterdir())}
    except OSError:
        return None
    if "Manifest.json" in names and "Data" in names:
        return Foreign("a Core ML package", _ONNX_SOURCE)
    if "saved_model.pb" in names:
        return Foreign("a TensorFlow SavedModel", _ONNX_SOURCE)
    endings = {Path(name).suffix for name in names}
    if {".xml", ".bin"} <= endings:
        return Foreign("an OpenVINO model (a folder)", _ONNX_SOURCE)
    if {".param", ".bin"} <= endings:
        return Foreign("an ncnn model (a folder)", _ONNX_SOURCE)
    if ".pdmodel" in endings or {"inference.yml", "inference.json"} & names:
        return Foreign("a Paddle model (a folder)", _ONNX_SOURCE)
    if {"data.pkl", "version"} <= names:
        return Foreign("an unpacked checkpoint", "give the .pt file as torch.save wrote it")
    onnx = sorted(name for name in names if name.endswith((".onnx", ".pt", ".torchscript", ".ptl")))
    return Foreign("a directory", f"it holds {json.dumps(onnx[0])}: give the file") if onnx else None
