"""What `detparity export` does: one model to the files asked for, each whole or not at all."""

from __future__ import annotations

from pathlib import Path
from typing import Callable, Optional, Sequence

from detparity import kit
from detparity.contract import NmsPromise
from detparity.errors import InputError
from detparity.exported import SUFFIX, export_bytes, safe_nms
from detparity.files import write_bytes
from detparity.intake import LARGEST_SIDE
from detparity.session import ModelChoice, load_detector
from detparity.subject import DYNAMO, ONNX, Size, Variant


def rounded(size: Size, stride: int, say: Callable[[str], None]) -> Size:
    """Round up to a multiple of the largest stride, and say so."""
    up = (-(-size[0] // stride) * stride, -(-size[1] // stride) * stride)
    if max(up) > LARGEST_SIDE:
        raise InputError(f"an image size of {up[0]}x{up[1]} is larger than {LARGEST_SIDE}")
    if up != size:
        say(
            f"warning: image size {size[0]}x{size[1]} is not a multiple of the largest stride {stride}; using {up[0]}x{up[1]}"
        )
    return up


def export_files(
    choice: ModelChoice,
    head: str,
    axes: str,
    size: Size,
    batch: int,
    simplify: Optional[str],
    include: Sequence[str],
    folder: Path,
    say: Callable[[str], None],
    nms: Optional[NmsPromise] = None,
    opset: Optional[int] = None,
    dynamo: bool = False,
    mobile: bool = False,
) -> None:
    """Write the files and say one line for each. Raises InputError for what cannot be used; a failed export writes nothing.

    opset: of the ONNX file, its exporter's default where None; dynamo: make it by way of torch.export; mobile: optimise the lite file.
    """
    if not folder.is_dir():
        raise InputError(f"--output-dir {folder} is not a directory")
    detector = load_detector(choice)
    size = rounded(size, detector.facts.max_stride, say)
    script_axes = "dynamic" if axes == "dynamic" else "static"
    onnx = Variant(head, axes, DYNAMO if dynamo else ONNX)
    # Suppression changes the ONNX file only: TorchScript keeps its decoded predictions.
    decoded = "grid" if onnx.end2end else head
    wanted = {
        "torchscript": Variant(decoded, script_axes, "traced"),
        "lite": Variant(decoded, "dynamic", "lite"),
        "onnx": onnx,
    }
    if onnx.end2end and onnx.name not in kit.exporters().registry():
        why = (
            "--dynamo makes no suppression"
            if dynamo
            else "the plugin's boxes and scores are of fixed length; use --dynamic-batch"
        )
        raise InputError(f"{onnx.name} cannot be made: {why}")
    if onnx.end2end and nms is not None:
        safe = safe_nms(detector.facts, onnx, size, nms)
        if safe.max_wh != nms.max_wh:
            say(
                f"warning: at --max-wh {nms.max_wh:g} classes can meet in the suppression; "
                f"using {safe.max_wh:g}, the smallest safe offset"
            )
    for name in dict.fromkeys(include):
        variant = wanted[name]
        path = folder / f"{detector.facts.name}{SUFFIX[variant.form]}"
        try:
            way = "lite-mobile" if mobile and name == "lite" else None
            content = export_bytes(
                detector, variant, size, batch, simplify if name == "onnx" else None, nms, opset, way
            )
        except InputError:
            raise
        except Exception as error:  # whatever an exporter raises, no file and one line
            raise InputError(
                f"exporting {variant.name} failed: {type(error).__name__}: {' '.join(str(error).split())[:400]}"
            ) from error
        write_bytes(path, content)
        shown = f"{variant.name} ({variant.head})" if name != "onnx" else variant.name
        say(f"{path}: {shown}, {size[0]}x{size[1]}, {len(content):,} bytes")
