"""Options that several subcommands share, and what they stand for."""

from __future__ import annotations

import argparse
import sys
from pathlib import Path
from typing import NoReturn, Optional, Sequence, Tuple

from detparity.core.errors import InputError
from detparity.models.choice import ARCH_WIDTH, FIRST_SEED, ModelChoice


class Parser(argparse.ArgumentParser):
    """argparse, with a wrong option reported in one line like every other unusable input."""

    def error(self, message: str) -> NoReturn:
        raise InputError(f"{message} (`{self.prog} --help` lists the options)")


def add_model(parser: argparse.ArgumentParser) -> None:
    group = parser.add_argument_group("model (default: the bundled detector)")
    group.add_argument(
        "--weights",
        type=Path,
        action="append",
        default=[],
        metavar="FILE",
        help="official-format checkpoint; several, each with its --weights, make an ensemble",
    )
    group.add_argument("--arch", metavar="NAME", help="build this architecture instead (`detparity models` lists them)")
    group.add_argument(
        "--cfg",
        metavar="CFG",
        help="architecture of weights that are a state dict, by name or as a layer table (.yaml); "
        "without weights it is built",
    )
    group.add_argument("--width", type=float, help=f"width factor (default: {ARCH_WIDTH} of --arch, its own of --cfg)")
    group.add_argument("--seed", type=int, default=FIRST_SEED, help="its seed (default %(default)s)")


def choice_of(options: argparse.Namespace) -> ModelChoice:
    return ModelChoice(tuple(options.weights), options.arch, options.width, options.seed, options.cfg)


def size_of(values: Optional[Sequence[int]]) -> Optional[Tuple[int, int]]:
    if values is None:
        return None
    if len(values) > 2:
        raise InputError(f"--img-size takes one or two numbers (height, width), not {len(values)}")
    if min(values) < 1:
        raise InputError(f"--img-size {' '.join(map(str, values))} is not positive")
    return (values[0], values[-1])


def require_writable(*paths: Optional[Path], reads: Sequence[Path] = ()) -> None:
    """Raise InputError, before the work begins, for an output that could not be written, is written twice, or is one of the files
    that are read."""
    taken = {path.resolve(): "it is one of the files that are read" for path in reads}
    for path in filter(None, paths):
        why = taken.get(path.resolve()) or ("it is a directory" if path.is_dir() else "")
        why = why or ("" if path.parent.is_dir() else "its folder does not exist")
        if why:
            raise InputError(f"cannot write {path}: {why}")
        taken[path.resolve()] = "two outputs of this command name it"


def require_pages(html: Optional[Path]) -> None:
    """Raise InputError, before the work begins, where an HTML page is requested and could not be made."""
    if html is not None:
        from detparity.reports.html import templates

        templates()


def say(text: str, end: str = "\n") -> None:
    """Print what may quote a file: a terminal that lacks a character shows another, and nothing moves its cursor."""
    from detparity.core.text import printable

    encoding = sys.stdout.encoding or "utf-8"
    shown = "\n".join(map(printable, text.split("\n")))
    print(shown.encode(encoding, "replace").decode(encoding), end=end, flush=True)


def ask(prompt: str) -> str:
    try:
        return input(prompt)
    except EOFError:
        raise InputError("the terminal was closed: what was not decided still waits") from None


def opset_of(options: argparse.Namespace) -> Optional[int]:
    """Versions of the ONNX standard have grown by one operator set at a time to 26; detectors need 11."""
    if options.opset is not None and not 11 <= options.opset <= 99:
        raise InputError(f"--opset {options.opset} is outside 11 to 99")
    return int(options.opset) if options.opset is not None else None


def add_nms(parser: argparse.ArgumentParser, cap: Optional[int], iou: Optional[float], score: Optional[float]) -> None:
    shown = "" if cap is None else " (default %(default)s)"
    parser.add_argument("--topk-all", type=int, default=cap, metavar="N", help=f"detections per image at most{shown}")
    parser.add_argument(
        "--iou-thres", type=float, default=iou, metavar="X", help=f"IoU over which boxes suppress{shown}"
    )
    parser.add_argument(
        "--conf-thres", type=float, default=score, metavar="X", help=f"score detections must exceed{shown}"
    )
    parser.add_argument(
        "--max-wh", type=float, metavar="PX", help="class offset for ONNX Runtime, 0 for class-agnostic"
    )


def require_nms(options: argparse.Namespace) -> None:
    for name, low, high in (
        ("iou_thres", 0.0, 1.0),
        ("conf_thres", 0.0, 1.0),
        ("topk_all", 1, 2**31 - 1),
        ("max_wh", 0.0, 1e9),
    ):
        value = getattr(options, name)
        if value is not None and not low <= value <= high:
            raise InputError(f"--{name.replace('_', '-')} {value:g} is outside {low:g} to {high:g}")
