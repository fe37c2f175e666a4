"""What is not a model is named by its content, and what to do is said, before anything heavy is imported."""

from __future__ import annotations

import io
import subprocess
import sys
import zipfile
from pathlib import Path
from typing import Callable, Dict, Mapping, Tuple

import numpy as np
import pytest
import torch

from detparity.core.errors import InputError
from detparity.core.file_kind import kind, require_checkpoint, require_exported
from detparity.models.compat.pickler import save


def varint(value: int) -> bytes:
    found = bytearray()
    while value > 0x7F:
        found.append(value & 0x7F | 0x80)
        value >>= 7
    return bytes([*found, value])


def message(*parts: Tuple[int, object]) -> bytes:
    """A protobuf message of numbers and bytes."""
    found = b""
    for number, value in parts:
        if isinstance(value, int):
            found += varint(number << 3) + varint(value)
        else:
            assert isinstance(value, bytes)
            found += varint(number << 3 | 2) + varint(len(value)) + value
    return found


def zipped(names: Mapping[str, bytes]) -> bytes:
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w") as file:
        for name, content in names.items():
            file.writestr(name, content)
    return buffer.getvalue()


ONNX = message((1, 8), (2, b"pytorch"), (3, b"2.13"), (7, message((2, b"g")) * 20), (8, message((2, 12))))
POINTER = b"version https://git-lfs.github.com/spec/v1\noid sha256:" + b"0" * 64 + b"\nsize 74922183\n"
# Name, content, and words about a file that is neither a checkpoint nor an exported model.
FOREIGN: Dict[str, Tuple[str, bytes, str]] = {
    "pointer": ("best.pt", POINTER, "is a Git LFS pointer to a file of 74922183 bytes"),
    "page": ("best.onnx", b"<!DOCTYPE html><html><head><title>Quota</title></head></html>", "is a web page"),
    "page after a blank line": ("best.pt", b"\n\n  <HTML><body>Sign in</body></HTML>", "is a web page"),
    "storage error": (
        "best.pt",
        b'<?xml version="1.0"?><Error><Code>AccessDenied</Code></Error>',
        "the error message of a file server",
    ),
    "json error": ("best.pt", b'{"error": "Invalid username or password."}', "the error message of a file server"),
    "engine": ("best.engine", b"ftrt" + bytes(4096), "is a TensorRT engine"),
    "engine named pt": ("best.pt", b"ptrt" + bytes(4096), "is a TensorRT engine"),
    "engine with metadata": (
        "best.engine",
        (20).to_bytes(4, "little") + b'{"stride": 32, "n": 1}'[:20] + b"ftrt" + bytes(99),
        "is a TensorRT engine with metadata",
    ),
    "ort": ("best.ort", b"\x30\x00\x00\x00ORTM" + bytes(512), "is an ONNX Runtime file (.ort)"),
    "tflite": ("best.tflite", b"\x1c\x00\x00\x00TFL3" + bytes(512), "is a TensorFlow Lite file"),
    "openvino": ("best.xml", b'<?xml version="1.0"?><net name="torch_jit" version="11"><layers/></net>', "OpenVINO"),
    "openvino weights": ("best.bin", bytes(range(256)) * 4, "a file of bare numbers (.bin)"),
    "core ml": ("best.mlmodel", message((1, 4), (2, b"about"), (500, b"layers")), "is a Core ML model"),
    "core ml named onnx": ("best.onnx", message((1, 7), (2, b"about"), (502, b"program")), "is a Core ML model"),
    "core ml beginning": ("best.mlmodel", b"\x08\x04\x12\x10" + bytes(64), "is a Core ML model"),
    "ncnn": ("best.param", b"7767517\n200 230\nInput images 0 1 in0\n", "is an ncnn parameter file"),
    "safetensors": (
        "model.safetensors",
        (60).to_bytes(8, "little") + b'{"a":{"dtype":"F32","shape":[1],"data_offsets":[0,4]}}     x' + bytes(8),
        "is a safetensors file",
    ),
    "keras": ("best.h5", b"\x89HDF\r\n\x1a\n" + bytes(99), "is an HDF5 file"),
    "gzip": ("best.pt.gz", b"\x1f\x8b\x08" + bytes(99), "is a gzip archive"),
    "picture": ("bus.jpg", b"\xff\xd8\xff\xe0" + bytes(99), "is a JPEG picture"),
    "darknet": ("yolov7.weights", bytes([0, 0, 0, 0, 2, 0, 0, 0, 5]) + bytes(99), "is a Darknet weights file"),
    "yaml": ("yolov7.yaml", b"nc: 80\ndepth_multiple: 1.0\n", "is a text, not a model"),
    "text": ("best.pt", b"404: Not Found\nsee https://example.org\n", "is a text, not a model"),
    "numpy": ("x.npz", zipped({"x.npy": b"\x93NUMPY"}), "is a numpy archive (.npz)"),
    "pt2": ("best.pt2", zipped({"m/models/model.json": b"{}", "m/version": b"1"}), "is a torch.export program (.pt2)"),
    "zip of a model": ("run.zip", zipped({"run/best.pt": b"x"}), "is a zip archive around a model"),
    "photos": ("photos.zip", zipped({"photos/cat.txt": b"cat"}), "that torch did not write"),
}


@pytest.mark.parametrize("name", FOREIGN)
def test_what_is_no_model_is_named(name: str, tmp_path: Path) -> None:
    file, content, words = FOREIGN[name]
    path = tmp_path / file
    path.write_bytes(content)

    for require in (require_checkpoint, require_exported):
        with pytest.raises(InputError) as caught:
            require(path)
        assert str(caught.value).startswith(f"{path} is ") and words in str(caught.value)
        assert "\n" not in str(caught.value) and "; " in str(caught.value)


def _saved(path: Path) -> Path:
    save({"model": torch.ones(4)}, path)
    return path


def _written(content: bytes) -> Callable[[Path], Path]:
    def write(path: Path) -> Path:
        path.write_bytes(content)
        return path

    return write


@pytest.mark.parametrize(
    "make, require, words",
    [
        (_written(ONNX), require_checkpoint, "is an ONNX file, not a checkpoint; it is an exported model"),
        (_saved, require_exported, "is a checkpoint, not an exported model; give it with --weights"),
        (_written(ONNX[:-20]), require_exported, "is an ONNX file cut short; copy or download it again"),
        (
            _written(zipped({"a/data.pkl": bytes(99)})[:-40]),
            require_checkpoint,
            "is a truncated or damaged zip archive",
        ),
    ],
)
def test_one_for_the_other_and_halves_are_named(make: object, require: object, words: str, tmp_path: Path) -> None:
    path = make(tmp_path / "x.bin.pt")  # type: ignore[operator]

    with pytest.raises(InputError, match=r"^[^\n]*$") as caught:
        require(path)  # type: ignore[operator]

    assert words in str(caught.value)


@pytest.mark.parametrize("name", ["x.onnx", "x.pt", "Best.PT", "x.mlmodel", "x.bin", "x.engine", "x"])
def test_the_content_decides_and_not_the_name(name: str, tmp_path: Path) -> None:
    path = tmp_path / name
    path.write_bytes(ONNX)
    require_exported(path)
    assert kind(path) == "other"  # what ours to read is; onnx itself reads the rest
    require_checkpoint(_saved(path))


def test_real_files_pass(shared_data: Path) -> None:
    for path in (shared_data / "checkpoints").glob("*.pt"):
        require_checkpoint(path)
    for path in (shared_data / "artifacts" / "yolov7-tiny").iterdir():
        require_exported(path)


@pytest.mark.parametrize("start", [b"\x08", b"\x0a", b"\x12", b"\x3a", b"PK\x03\x04", b"\x80\x02", b"<", b"{", b"\x00"])
def test_noise_is_passed_on_or_named_in_one_line(start: bytes, tmp_path: Path) -> None:
    path = tmp_path / "x.pt"
    rng = np.random.default_rng(len(start) + start[0])
    for length in (0, 1, 3, 30, 3000):
        path.write_bytes(start + rng.bytes(length))
        for require in (require_checkpoint, require_exported):
            try:
                require(path)
            except InputError as error:
                assert "\n" not in str(error)


@pytest.mark.parametrize(
    "names, words",
    [
        (("Manifest.json", "Data/x"), "is a Core ML package"),
        (("best.xml", "best.bin"), "is an OpenVINO model (a folder)"),
        (("saved_model.pb",), "is a TensorFlow SavedModel"),
        (("model.ncnn.param", "model.ncnn.bin"), "is an ncnn model (a folder)"),
        (("best.onnx", "notes.txt"), 'it holds "best.onnx": give the file'),
        ((), "is a directory"),
    ],
)
def test_folders_are_named(names: Tuple[str, ...], words: str, tmp_path: Path) -> None:
    for name in names:
        (tmp_path / name).parent.mkdir(exist_ok=True)
        (tmp_path / name).touch()

    with pytest.raises(InputError) as caught:
        require_exported(tmp_path)

    assert words in str(caught.value)


def test_it_imports_nothing_heavy() -> None:
    code = "import sys, detparity.core.file_kind; print(sorted({'numpy', 'torch', 'onnx'} & set(sys.modules)))"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)

    assert done.stdout.strip() == "[]"


@pytest.mark.parametrize("content", [b"hello", ONNX[:2], bytes(range(200, 256)) * 9, b"\x08\x07\x12\x07pytorch"])
def test_what_holds_no_graph_is_known_before_it_is_opened(content: bytes, tmp_path: Path) -> None:
    path = _written(content)(tmp_path / "x.onnx")

    with pytest.raises(InputError, match=r"x\.onnx is not an ONNX model or is truncated; copy or export it again$"):
        require_exported(path)
    require_exported(_written(ONNX)(path))
