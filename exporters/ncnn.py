"""An ONNX file as ncnn's own (.param with .bin), by the program in the package pnnx, which needs nothing that package asks for."""

from __future__ import annotations

import importlib.util
import shutil
import subprocess
from pathlib import Path

from detparity.core.errors import NotMade
from detparity.core.vocabulary import Size

FOLDER = "_ncnn_model"
SECONDS = 600
FILES = (".ncnn.param", ".ncnn.bin")


def convert(onnx: Path, folder: Path, size: Size, half: bool) -> None:
    """Convert a static float32 file into a folder that is there. half: weights in float16. Raises NotMade where the program makes no
    file."""
    found = importlib.util.find_spec("pnnx")
    program = Path(str(found.origin)).parent / "pnnx" if found is not None else Path("pnnx")
    shape = f"inputshape=[1,3,{size[0]},{size[1]}]"
    done = subprocess.run(
        [str(program), onnx.name, shape, f"fp16={int(half)}"],
        cwd=str(onnx.parent),
        capture_output=True,
        text=True,
        timeout=SECONDS,
    )
    made = [onnx.with_suffix(suffix) for suffix in FILES]
    if not all(path.is_file() for path in made):
        last = [line for line in (done.stdout + done.stderr).splitlines() if line.strip()][-1:]
        raise NotMade(f"pnnx made no file: {' '.join(last)[:300]}", False)
    for path in made:
        shutil.move(str(path), str(folder / path.name))
    (folder / "metadata.yaml").write_text(f"imgsz:\n- {size[0]}\n- {size[1]}\n", encoding="utf-8")
