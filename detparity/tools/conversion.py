"""ONNX files as those of other runtimes, where their converters are installed."""

from __future__ import annotations

import importlib.util
import shutil
import tempfile
from pathlib import Path
from typing import Mapping, Sequence

import detparity.kit.exporters as exporters
from detparity.core.errors import InputError, NotMade, clipped
from detparity.core.runtimes import runtime_files
from detparity.core.vocabulary import Size, Variant

PACKAGES: Mapping[str, str] = {"openvino": "openvino", "ncnn": "pnnx", "litert": "onnx2tf"}
SUFFIXES = (".xml", ".bin", ".param", ".tflite", ".yaml", ".json")  # of what converters write into their folders
INSTALL = {
    "openvino": "pip install 'detparity[openvino]'",
    "ncnn": "pip install --no-deps pnnx",
    "litert": "pip install onnx2tf, on Python 3.12",
}


def folder_of(name: str, onnx: Path) -> Path:
    """Where the converted files of an ONNX file go: a folder beside it."""
    return onnx.with_name(f"{onnx.stem}{exporters.converter(name).FOLDER}")


def require_converters(names: Sequence[str], variant: Variant, batch: int) -> None:
    """Raise InputError for a converter that is not installed, and for what one does not take."""
    for name in names:
        if importlib.util.find_spec(PACKAGES[name]) is None:
            raise InputError(f"--include {name} needs {PACKAGES[name]}, which is not installed: {INSTALL[name]}")
        if name != "openvino" and (variant.axes != "static" or batch != 1):
            raise InputError(
                f"--include {name}: its files take one image of one size; leave out --dynamic and --batch-size"
            )
        if name != "openvino" and variant.end2end:
            raise InputError(f"--include {name}: it has no suppression; leave out --end2end")


def require_folder(folder: Path, force: bool) -> None:
    """Raise InputError for a folder that is there, unless it may be written over and holds such a model and nothing else."""
    there = folder.exists() or folder.is_symlink()
    if there and (not force or folder.is_symlink() or runtime_files(folder) is None):
        raise InputError(
            f"{folder} is there already: --force overwrites a converted model, --output-dir writes elsewhere"
        )
    inside = sorted(folder.iterdir()) if there else []
    others = [one.name for one in inside if one.suffix not in SUFFIXES or not one.is_file()]
    if others:
        raise InputError(f"{folder} holds {others[0]!r} beside a converted model, so that it is not overwritten")


def convert(name: str, content: bytes, folder: Path, size: Size, scratch: Path, half: bool = False) -> Path:
    """Convert the bytes of a float32 ONNX file for `folder`; returns where it lies in `scratch`, which is made. half: weights in
    float16. Raises InputError."""
    made = scratch / "made"
    made.mkdir(parents=True)
    source = scratch / f"{folder.name[: -len(exporters.converter(name).FOLDER)]}.onnx"
    source.write_bytes(content)
    try:
        exporters.converter(name).convert(source, made, size, half)
    except NotMade as error:
        raise InputError(f"converting for {name} failed: {clipped(error, 400)}") from None
    except Exception as error:  # whatever a converter raises, no file and one line
        raise InputError(f"converting for {name} failed: {type(error).__name__}: {clipped(error, 400)}") from error
    return made


def put(made: Path, folder: Path) -> int:
    """Put a converted model where it belongs, complete or not at all; returns the bytes written. Raises InputError."""
    try:
        with tempfile.TemporaryDirectory(prefix=f".{folder.name[:60]}.", dir=str(folder.parent)) as beside:
            complete, old = Path(beside, "new"), Path(beside, "old")
            shutil.copytree(made, complete)
            if folder.exists():
                folder.replace(old)
            try:
                complete.replace(folder)
            except OSError:
                if old.exists():
                    old.replace(folder)
                raise
        return sum(one.stat().st_size for one in folder.iterdir())
    except OSError as error:
        raise InputError(f"cannot write {folder}: {error.strerror or error}") from None
