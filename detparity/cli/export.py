"""`detparity export`: one model to the files asked for, each complete or not at all."""

from __future__ import annotations

import argparse
import importlib.util
import shlex
import tempfile
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Callable, Dict, Iterator, Mapping, Optional, Tuple

import numpy as np

import detparity.kit.exporters as exporters
from detparity.artifacts.open import LARGEST_SIDE
from detparity.cli.options import (
    add_model,
    add_nms,
    choice_of,
    opset_of,
    path_of,
    require_nms,
    require_writable,
    say,
    size_of,
)
from detparity.core.contract import NmsPromise, default_opset
from detparity.core.errors import InputError, clipped
from detparity.core.files import write_bytes
from detparity.core.vocabulary import DYNAMO, ONNX, Size, Variant
from detparity.inputs.photos import PhotosAsked, find, fit_of, fitted, read
from detparity.kit.exporters.low_precision import PER_CHANNEL_OPSET, to_int8
from detparity.models.choice import BUNDLED, ModelChoice, load_detector
from detparity.tools.conversion import PACKAGES, convert, folder_of, put, require_converters, require_folder
from detparity.tools.export_cache import SUFFIX, export_bytes, missing, safe_nms


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
        choices=("torchscript", "onnx", "lite", *PACKAGES),
        help="what to write (default: torchscript onnx); for other runtimes where their converters are installed",
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
    parser.add_argument(
        "--half",
        action="store_true",
        help="the network in float16; inputs, outputs, decode and suppression stay in float32",
    )
    parser.add_argument(
        "--int8", action="store_true", help="ONNX in 8 bits, calibrated on --images; the heads stay in float32"
    )
    parser.add_argument("--images", type=Path, metavar="DIR", help="pictures that --int8 is calibrated on")
    parser.add_argument(
        "--preprocess", metavar="HOW", help="of them: resize=letterbox|corner|stretch,order=rgb|bgr,pad=0..255"
    )
    for name in ("--fp16", "--include-nms"):
        parser.add_argument(name, action="store_true", help=argparse.SUPPRESS)
    parser.add_argument("--force", action="store_true", help="overwrite files that are there")
    parser.set_defaults(run=run)


def run(options: argparse.Namespace) -> int:
    """Exit codes: 0 exported, 2 unusable input or a failed export; then nothing is written."""
    for name in ("fp16", "include_nms"):
        if getattr(options, name):
            raise InputError(f"--{name.replace('_', '-')} is not supported yet")
    _require_precision(options)
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
    asked = Export(
        choice_of(options),
        Variant(head, axes, DYNAMO if options.dynamo else ONNX),
        size,
        options.batch_size,
        options.simplify,
        tuple(dict.fromkeys(options.include)),
        options.output_dir or (options.weights[-1].parent if options.weights else Path(".")),
        nms,
        opset_of(options),
        options.mobile,
        options.force,
        tuple(filter(None, [*options.weights, path_of(options.cfg)])),
        options.half,
        options.images if options.int8 else None,
        options.preprocess or "",
    )
    export_files(asked, say)
    return 0


def _require_precision(options: argparse.Namespace) -> None:
    """Raise InputError for a precision that cannot be made."""
    if options.half and options.int8:
        raise InputError("--half and --int8 exclude each other: a file has one precision")
    for name in ("half", "int8"):
        if getattr(options, name) and "lite" in options.include:
            raise InputError(f"--{name} makes no lite file: leave lite out of --include")
    if options.int8 and options.include != ["onnx"]:
        raise InputError("--int8 makes ONNX files alone: give --include onnx")
    if options.int8 and options.images is None:
        raise InputError("--int8 needs --images DIR, the pictures whose ranges it takes")
    for name in ("images", "preprocess"):
        if not options.int8 and getattr(options, name) is not None:
            raise InputError(f"--{name} is of --int8, which is not given")


def _end2end(options: argparse.Namespace) -> Tuple[str, Any]:
    """The head and the promise: --max-wh chooses ONNX Runtime, 0 included; without it the target is TensorRT."""
    from detparity.core.contract import NmsPromise

    require_nms(options)
    if not options.grid:
        say("note: --end2end implies --grid")
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


@dataclass(frozen=True)
class Export:
    """What `export` is asked for. onnx: the variant of the ONNX file; include: kinds of file; opset: of the ONNX file, None for its
    exporter's own; mobile: optimise the lite file; force: overwrite what is there; reads: files that are read;
    half: float16; calibration: the folder of pictures for 8 bits, and how they are preprocessed."""

    choice: ModelChoice
    onnx: Variant
    size: Size
    batch: int
    simplify: Optional[str]
    include: Tuple[str, ...]
    folder: Path
    nms: Optional[NmsPromise] = None
    opset: Optional[int] = None
    mobile: bool = False
    force: bool = False
    reads: Tuple[Path, ...] = ()
    half: bool = False
    calibration: Optional[Path] = None
    preprocess: str = ""

    @property
    def converted(self) -> Tuple[str, ...]:
        """The runtimes that its ONNX file is converted for."""
        return tuple(name for name in self.include if name in PACKAGES)

    def variants(self) -> Dict[str, Variant]:
        """The variant of each kind of file. Suppression changes the ONNX file only: TorchScript has decoded predictions."""
        decoded = "grid" if self.onnx.end2end else self.onnx.head
        script_axes = "dynamic" if self.onnx.axes == "dynamic" else "static"
        return {
            "torchscript": Variant(decoded, script_axes, "traced"),
            "lite": Variant(decoded, "dynamic", "lite"),
            "onnx": self.onnx,
        }


def export_files(asked: Export, say: Callable[[str], None]) -> None:
    """Write the files and say one line for each, then how to check them. Every file is made before the first is written.

    Raises InputError for what cannot be used, what is there already, and an export that fails.
    """
    if not asked.folder.is_dir():
        raise InputError(f"--output-dir {asked.folder} is not a directory")
    _require_packages(asked)
    detector = load_detector(asked.choice)
    asked = replace(asked, size=rounded(asked.size, detector.facts.max_stride, say))
    paths = {
        name: asked.folder / f"{detector.facts.name}{SUFFIX[variant.form]}"
        for name, variant in asked.variants().items()
        if name in asked.include
    }
    folders = {name: folder_of(name, asked.folder / f"{detector.facts.name}{SUFFIX[ONNX]}") for name in asked.converted}
    for folder in folders.values():
        require_folder(folder, asked.force)
    require_writable(*paths.values(), reads=asked.reads)
    there = [path for path in paths.values() if path.exists()]
    if there and not asked.force:
        raise InputError(f"{there[0]} is there already: --force overwrites it, --output-dir writes elsewhere")
    _require_suppression(asked, detector, say)
    contents = {name: _made(asked, detector, name) for name in paths}
    source = _source(asked, detector, contents) if folders else b""
    with tempfile.TemporaryDirectory(prefix="detparity-") as scratch:
        ready = {
            name: convert(name, source, folder, asked.size, Path(scratch, name), asked.half)
            for name, folder in folders.items()
        }
        written = {name: put(ready[name], folder) for name, folder in folders.items()}
    for name, folder in folders.items():
        say(f"{folder}: {name} of {asked.onnx.name}, {asked.size[0]}x{asked.size[1]}, {written[name]:,} bytes")
    for name, path in paths.items():
        write_bytes(path, contents[name])
        variant = asked.variants()[name]
        shown = f"{variant.name} ({variant.head})" if name != "onnx" else variant.name
        say(f"{path}: {shown}, {asked.size[0]}x{asked.size[1]}, {len(contents[name]):,} bytes")
    words = [
        "detparity",
        "check",
        *map(str, [*paths.values(), *folders.values()]),
        *(asked.choice.arguments or ["--model", BUNDLED]),
    ]
    say(f"check them:  {' '.join(map(shlex.quote, words))}")


def _require_packages(asked: Export) -> None:
    """Raise InputError for a package or a part of torch that the export needs and that is not here."""
    require_converters(asked.converted, asked.onnx, asked.batch)
    if asked.simplify and "onnx" in asked.include and importlib.util.find_spec(asked.simplify) is None:
        raise InputError(
            f"--simplify needs {asked.simplify}, which is not installed: pip install 'detparity[simplify]'"
        )
    exporter = "lite-mobile" if asked.mobile else f"{asked.onnx.head}-dynamo" if asked.onnx.dynamo else ""
    reason = missing(exporter) if exporter in exporters.registry() else None
    if reason and (asked.mobile or "onnx" in asked.include):
        raise InputError(f"{'--mobile' if asked.mobile else '--dynamo'} cannot be used here: {reason}")


def _require_suppression(asked: Export, detector: Any, say: Callable[[str], None]) -> None:
    """Raise InputError for a suppression that no exporter makes; say so where the class offset is raised."""
    if not asked.onnx.end2end or "onnx" not in asked.include:
        return
    if asked.onnx.name not in exporters.registry():
        why = (
            "--dynamo makes no suppression"
            if asked.onnx.dynamo
            else "the plugin's boxes and scores are of fixed length; use --dynamic-batch"
        )
        raise InputError(f"{asked.onnx.name} cannot be made: {why}")
    if asked.nms is not None:
        safe = safe_nms(detector.facts, asked.onnx, asked.size, asked.nms)
        if safe.max_wh != asked.nms.max_wh:
            say(
                f"warning: at --max-wh {asked.nms.max_wh:g} classes can meet in the suppression; "
                f"using {safe.max_wh:g}, the smallest safe offset"
            )


def _calibration(asked: Export) -> Iterator[np.ndarray]:
    """The pictures as the file will be given them, each read when it is asked for. Raises InputError where there are none."""
    assert asked.calibration is not None
    fit = fit_of(asked.preprocess)
    photos, _ = find(PhotosAsked(asked.calibration, fit=fit))
    return (fitted(read(photo.path), asked.size, fit) for photo in photos)


def _source(asked: Export, detector: Any, contents: Mapping[str, bytes]) -> bytes:
    """What converters are given: the file in float32, whose weights they store in half precision themselves."""
    if "onnx" in contents and not asked.half:
        return contents["onnx"]
    return _made(replace(asked, half=False), detector, "onnx")


def _made(asked: Export, detector: Any, name: str) -> bytes:
    """The content of one file. Raises InputError with the exporter's reason where it makes none."""
    variant = asked.variants()[name]
    simplify = asked.simplify if name == "onnx" else None
    exporter = "lite-mobile" if asked.mobile and name == "lite" else None
    opset = asked.opset
    if asked.calibration is not None and opset is None:
        opset = max(PER_CHANNEL_OPSET, default_opset(variant))
    try:
        made = export_bytes(
            detector, variant, asked.size, asked.batch, simplify, asked.nms, opset, exporter, asked.half
        )
        return to_int8(made, _calibration(asked)) if asked.calibration is not None else made
    except InputError:
        raise
    except Exception as error:  # whatever an exporter raises, no file and one line
        if "XNNPACK" in str(error) or "xnnpack" in str(error):
            raise InputError(
                "--mobile needs a torch that is built with XNNPACK, and this one is not; leave it out"
            ) from None
        raise InputError(f"exporting {variant.name} failed: {type(error).__name__}: {clipped(error, 400)}") from error
