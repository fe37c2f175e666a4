"""`detparity export`: one model to the files asked for, each complete or not at all."""

from __future__ import annotations

import argparse
from pathlib import Path
from typing import Any, Callable, Optional, Sequence, Tuple

import detparity.kit.exporters as exporters
from detparity.artifacts.open import LARGEST_SIDE
from detparity.cli.options import (
    add_model,
    add_nms,
    choice_of,
    opset_of,
    require_nms,
    size_of,
)
from detparity.core.contract import NmsPromise
from detparity.core.errors import InputError
from detparity.core.files import write_bytes
from detparity.core.vocabulary import DYNAMO, ONNX, Size, Variant
from detparity.models.choice import ModelChoice, load_detector
from detparity.tools.export_cache import SUFFIX, export_bytes, safe_nms


def add(parser: argparse.ArgumentParser) -> None:
    add_model(parser)
    parser.add_argument(
        "--img-size", type=int, nargs="+", default=[640, 640], metavar="N", help="height, width (default 640 640)"
    )
    parser.add_argument("--batch-size", type=int, default=1, help="images a static file takes (default 1)")
    parser.add_argument("--dynamic", action="store_true", help="batch, height and width may vary")
    parser.add_argument("--dynamic-batch", action="store_true", help="the batch may vary")
    parser.add_argument("--grid", action="store_true", help="decode predictions in the graph")
    parser.add_argument(
        "--simplify", nargs="?", const="onnxsim", choices=("onnxsim", "onnxslim"), help="simplify the ONNX graph"
    )
    parser.add_argument(
        "--include",
        nargs="+",
        default=["torchscript", "onnx"],
        choices=("torchscript", "onnx", "lite"),
        help="what to write (default: torchscript onnx)",
    )
    parser.add_argument(
        "--mobile", action="store_true", help="optimise the lite file for mobile; needs XNNPACK in torch"
    )
    parser.add_argument("--output-dir", type=Path, metavar="DIR", help="where to write (default: beside the weights)")
    parser.add_argument("--device", default="cpu", help="only cpu works")
    parser.add_argument("--end2end", action="store_true", help="suppression in the ONNX graph; implies --grid")
    parser.add_argument("--standard-nms", action="store_true", help="for TensorRT without its deprecated plugin")
    parser.add_argument("--opset", type=int, metavar="N", help="of the ONNX file (default 12; with --dynamo 18)")
    parser.add_argument(
        "--dynamo", action="store_true", help="ONNX by torch.export; an opset below 18 is converted down to"
    )
    add_nms(parser, 100, 0.45, 0.25)
    for name in ("--fp16", "--int8", "--include-nms"):
        parser.add_argument(name, action="store_true", help=argparse.SUPPRESS)
    parser.set_defaults(run=run)


def run(options: argparse.Namespace) -> int:
    for name in ("fp16", "int8", "include_nms"):
        if getattr(options, name):
            raise InputError(f"--{name.replace('_', '-')} is not supported yet")
    if options.mobile and "lite" not in options.include:
        raise InputError("--mobile is for the lite file: add --include lite")
    if options.device != "cpu":
        raise InputError(f"--device {options.device}: only cpu is supported")
    if options.batch_size < 1:
        raise InputError(f"--batch-size {options.batch_size} is not positive")
    size = size_of(options.img_size)
    assert size is not None
    axes = "dynamic" if options.dynamic else "dynamic-batch" if options.dynamic_batch else "static"
    head, nms = _end2end(options) if options.end2end else ("grid" if options.grid else "raw", None)
    folder = options.output_dir or (options.weights[-1].parent if options.weights else Path("."))
    simplify, batch = options.simplify, options.batch_size
    how = {"opset": opset_of(options), "dynamo": options.dynamo, "mobile": options.mobile}
    export_files(choice_of(options), head, axes, size, batch, simplify, options.include, folder, print, nms, **how)
    return 0


def _end2end(options: argparse.Namespace) -> Tuple[str, Any]:
    """The head and the promise: --max-wh chooses ONNX Runtime, 0 included; without it the target is TensorRT."""
    from detparity.core.contract import NmsPromise

    require_nms(options)
    if not options.grid:
        print("note: --end2end implies --grid")
    promise = NmsPromise(options.iou_thres, options.conf_thres, options.topk_all, options.max_wh)
    if options.max_wh is not None:
        return "end2end-ort", promise
    return ("end2end-trt-nms" if options.standard_nms else "end2end-trt"), promise


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

    opset: of the ONNX file, its exporter's default where None; dynamo: make it by torch.export; mobile: optimise the lite file.
    """
    if not folder.is_dir():
        raise InputError(f"--output-dir {folder} is not a directory")
    detector = load_detector(choice)
    size = rounded(size, detector.facts.max_stride, say)
    script_axes = "dynamic" if axes == "dynamic" else "static"
    onnx = Variant(head, axes, DYNAMO if dynamo else ONNX)
    # Suppression changes the ONNX file only: TorchScript keeps its decoded predictions.
    decoded = "grid" if onnx.end2end else head
    variants = {
        "torchscript": Variant(decoded, script_axes, "traced"),
        "lite": Variant(decoded, "dynamic", "lite"),
        "onnx": onnx,
    }
    if onnx.end2end and onnx.name not in exporters.registry():
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
        variant = variants[name]
        path = folder / f"{detector.facts.name}{SUFFIX[variant.form]}"
        try:
            exporter = "lite-mobile" if mobile and name == "lite" else None
            content = export_bytes(
                detector, variant, size, batch, simplify if name == "onnx" else None, nms, opset, exporter
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
