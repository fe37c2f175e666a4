"""An ONNX file as OpenVINO's own (.xml with .bin), its weights as asked for: the converter halves them unless asked not to."""

from __future__ import annotations

from pathlib import Path

from detparity.core.vocabulary import Size

FOLDER = "_openvino_model"


def convert(onnx: Path, folder: Path, size: Size, half: bool) -> None:
    """Convert a float32 file into a folder that is there. half: weights in float16. Raises what OpenVINO raises."""
    import openvino

    openvino.save_model(openvino.convert_model(str(onnx)), str(folder / f"{onnx.stem}.xml"), compress_to_fp16=half)
