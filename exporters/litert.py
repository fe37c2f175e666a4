"""An ONNX file as a .tflite file, by the command of onnx2tf, which needs Python 3.12. Its input has channels last."""

from __future__ import annotations

import shutil
import subprocess
import sys
from pathlib import Path

from detparity.core.errors import NotMade
from detparity.core.vocabulary import Size

FOLDER = "_litert_model"
SECONDS = 1200
MADE = {False: "_float32.tflite", True: "_float16.tflite"}  # it writes both


def convert(onnx: Path, folder: Path, size: Size, half: bool) -> None:
    """Convert a float32 file into a folder that is there. half: weights in float16. Raises NotMade where the program makes no file."""
    words = [sys.executable, "-m", "onnx2tf", "-i", onnx.name, "-o", "tflite", "-n"]
    done = subprocess.run(words, cwd=str(onnx.parent), capture_output=True, text=True, timeout=SECONDS)
    made = onnx.parent / "tflite" / f"{onnx.stem}{MADE[half]}"
    if not made.is_file():
        last = [line for line in (done.stdout + done.stderr).splitlines() if line.strip()][-1:]
        raise NotMade(f"onnx2tf made no file: {' '.join(last)[:300]}", False)
    shutil.move(str(made), str(folder / f"{onnx.stem}.tflite"))
