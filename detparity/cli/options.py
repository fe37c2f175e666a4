"""Options that several subcommands share, and what they stand for."""

from __future__ import annotations

import argparse
import contextlib
import os
import re
import sys
from pathlib import Path
from typing import IO, TYPE_CHECKING, Any, List, Mapping, NoReturn, Optional, Sequence, Tuple

from detparity.artifacts.external_data import beside
from detparity.core.errors import InputError
from detparity.core.files import STDOUT
from detparity.core.precision import PRECISIONS
from detparity.core.text import printable
from detparity.models.choice import ARCH_WIDTH, BUNDLED, FIRST_SEED, ModelChoice

if TYPE_CHECKING:
    from detparity.core.array_cache import ArrayCache
    from detparity.core.endpoint import Endpoint
    from detparity.inputs.photos import PhotosAsked

PICTURES = 4  # of a page, for each file
SUMMARY = "GITHUB_STEP_SUMMARY"  # the file to which the steps of a job add


def nearest(word: str, known: Sequence[str]) -> str:
    """What a mistyped word may stand for, as the end of a message; empty where nothing is near."""
    import difflib  # for a mistyped word alone

    plain = {name.lstrip("-"): name for name in known}
    found = difflib.get_close_matches(word.lstrip("-"), list(plain), 1, 0.7)
    return f"; did you mean {plain[found[0]]}?" if found else ""


class Parser(argparse.ArgumentParser):
    """argparse, with a wrong option reported in one line like every other unusable input, and paths that are no empty text."""

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self.register("type", Path, _path)

    def error(self, message: str) -> NoReturn:
        choice = re.search(r"invalid choice: '([^']*)' \(choose from (.*)\)", message)
        near = nearest(choice[1], re.findall(r"[\w-]+", choice[2])) if choice else ""
        raise InputError(f"{message}{near} (`{self.prog} --help` lists the options)")

    def option_names(self) -> List[str]:
        """The options of this parser, as they are spelled."""
        return [name for action in self._actions for name in action.option_strings]

    def subparsers(self) -> Mapping[str, Parser]:
        """The parsers of its subcommands, by name."""
        found = [action.choices for action in self._actions if isinstance(action, argparse._SubParsersAction)]
        return found[0] if found else {}


def _path(text: str) -> Path:
    """An empty text, as an unset variable gives, would be the current folder."""
    if not text:
        raise argparse.ArgumentTypeError("an empty path")
    return Path(text)


def add_model(parser: argparse.ArgumentParser) -> None:
    group = parser.add_argument_group(
        "model of the YOLOv7 family (default, where no file is given: the bundled detector)"
    )
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


def add_home_model(parser: argparse.ArgumentParser) -> None:
    """The model of a command that is for the YOLOv7 family alone."""
    add_model(parser)
    parser.add_argument("--model", choices=(BUNDLED,), help="the detector that comes with detparity")


def add_any_model(parser: argparse.ArgumentParser) -> None:
    """What files of any detector are judged against."""
    group = parser.add_argument_group("any other model")
    group.add_argument(
        "--model",
        metavar="SPEC",
        help="PKG.MOD:FACTORY or FILE.py:FACTORY (your code is run), ultralytics:, libreyolo:, torchvision: or transformers: with a "
        "name, or bundled",
    )
    group.add_argument("--model-args", metavar="JSON", help="arguments of the factory, as a list or an object")
    group.add_argument(
        "--against", metavar="FILE", help="another exported file whose graph is compared, or self; no model"
    )
    group.add_argument("--capture", type=Path, metavar="DIR", help="what `detparity capture --keep DIR` stored")
    group.add_argument("--layout", metavar="LAYOUT", help="what the outputs mean: a preset's name or a file (.toml)")
    group.add_argument("--condition", action="store_true", help="set batch-norm on noise, for random weights")
    group.add_argument("--trust", action="store_true", help="load a checkpoint whose loading executes what it holds")


def add_images(parser: argparse.ArgumentParser) -> None:
    group = parser.add_argument_group("your own pictures")
    group.add_argument("--images", type=Path, metavar="DIR", help="judge the file on these pictures as well")
    group.add_argument(
        "--labels", type=Path, metavar="DIR", help="of them, YOLO text files or a COCO file: mAP of both"
    )
    group.add_argument("--max-images", type=int, metavar="N", help="pictures taken at most (default: 100)")
    group.add_argument(
        "--preprocess",
        metavar="HOW",
        help="resize=letterbox|corner|stretch,order=rgb|bgr,pad=0..255 (default: the layout's)",
    )
    group.add_argument(
        "--resume", type=Path, metavar="DIR", help="store what each picture gave, and go on from what is there"
    )


def add_precision(parser: argparse.ArgumentParser) -> None:
    group = parser.add_argument_group("precision")
    group.add_argument(
        "--precision", choices=PRECISIONS, help="the precision that the files promise (default: read from each)"
    )
    group.add_argument(
        "--budget",
        default="",
        metavar="LIMITS",
        help="what 8 bits may lose: map50=0.02,map=0.03,lost=0.05,... (docs/precision.md)",
    )


def add_cache(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "--cache", type=Path, metavar="DIR", help="where references are stored for later runs (default: your caches)"
    )
    parser.add_argument("--no-cache", action="store_true", help="store no references and read none")


def cache_of(options: argparse.Namespace) -> Optional[ArrayCache]:
    """Where references are stored, or None for nowhere, as by default for a user whose home is missing or cannot be read. Raises
    InputError for a folder that is a file or cannot be read."""
    from detparity.core.array_cache import ArrayCache, default_folder

    if options.no_cache:
        return None
    try:
        folder: Path = options.cache or default_folder()
        if folder.exists() and not folder.is_dir():
            raise InputError(f"--cache {folder} is no folder")
    except OSError as error:
        if options.cache is not None:
            raise InputError(f"--cache {options.cache} cannot be read: {error.strerror}") from None
        return None
    except InputError:
        if options.cache is not None:
            raise
        return None
    return ArrayCache(folder)


def require_images(options: argparse.Namespace) -> None:
    """Raise InputError, before the work begins, for options of pictures that need --images, and for a folder that is not there."""
    for name in ("labels", "max_images", "preprocess", "resume"):
        if options.images is None and getattr(options, name) is not None:
            raise InputError(f"--{name.replace('_', '-')} is of --images, which is not given")
    for name in ("images", "labels"):
        path = getattr(options, name)
        if path is not None and not path.exists():
            raise InputError(f"--{name} {path} does not exist")
    resume = getattr(options, "resume", None)
    if resume is not None and resume.exists() and not resume.is_dir():
        raise InputError(f"--resume {resume} is no folder")


def images_of(options: argparse.Namespace) -> Optional[PhotosAsked]:
    """The pictures a run is given, None for none. Raises InputError for options that need them."""
    if options.images is None:  # numpy, which pictures need, is a third of what starting a command costs
        return None
    from detparity.inputs.photos import MOST, PhotosAsked, fit_of

    most = MOST if options.max_images is None else options.max_images
    if most < 1:
        raise InputError(f"--max-images {most} is not positive")
    fit = fit_of(options.preprocess) if options.preprocess is not None else None
    return PhotosAsked(options.images, options.labels, most, fit, getattr(options, "resume", None))


def add_display(parser: argparse.ArgumentParser) -> None:
    group = parser.add_argument_group("display")
    group.add_argument("-q", "--quiet", action="store_true", help="one line a file, and the verdict; no progress")
    group.add_argument("-v", "--verbose", action="store_true", help="a line for each check on stderr, as it ends")
    group.add_argument(
        "--color",
        choices=("auto", "always", "never"),
        default="auto",
        help="default auto: on a terminal, unless NO_COLOR is set",
    )


def add_ci(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--junit", type=Path, metavar="FILE", help="write JUnit XML")
    parser.add_argument(
        "--markdown", type=Path, metavar="FILE", help=f"write Markdown, such as for ${SUMMARY}, which is added to"
    )
    parser.add_argument("--annotations", action="store_true", help="print annotations for GitHub Actions")


def add_engine(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "--engine",
        metavar="NAMES",
        help="judge ONNX files on these engines, separated by commas: onnxruntime, openvino, tensorrt (default: onnxruntime); or the "
        "file as a server runs it: kserve+http://HOST:PORT/MODEL, or kserve+grpc://...",
    )


def endpoint_of(engine: Optional[str], files: Sequence[Path]) -> Optional[Endpoint]:
    """The server of --engine that runs the file, None where none is named. Raises InputError, before the work begins, where there is
    none that has the model."""
    if engine is None or ("://" not in engine and not engine.startswith("kserve")):
        return None
    from detparity.core.endpoint import parse
    from detparity.engines import kserve

    found = parse(engine)
    if len(files) != 1:
        raise InputError(f"--engine {found} needs the one file that the server runs: it states what is promised")
    try:
        kserve.served(found)
    except kserve.NotServed as error:
        raise InputError(f"--engine {found}: the server {error}") from None
    return found


def engines_of(names: Optional[str]) -> Tuple[str, ...]:
    """The engines of --engine, each once. Raises InputError for one that judges no ONNX file, and for one alone that is not there."""
    from detparity.engines import ENGINES, judging, others

    asked = tuple(dict.fromkeys(filter(None, (name.strip() for name in (names or "").split(",")))))
    known = [judging("onnx").name, *others("onnx")]
    for name in asked:
        if name not in known:
            own = "; a file of its own is judged without --engine" if name in ENGINES else nearest(name, known)
            raise InputError(f"--engine {name}: ONNX files are judged on {', '.join(known)}{own}")
    if len(asked) == 1 and ENGINES[asked[0]].missing:
        raise InputError(f"--engine {asked[0]}: {ENGINES[asked[0]].missing}")
    return asked


def choice_of(options: argparse.Namespace) -> ModelChoice:
    home = (tuple(options.weights), options.arch, options.width, options.seed, options.cfg)
    if not hasattr(options, "against"):
        return ModelChoice(*home, getattr(options, "model", None))
    return ModelChoice(
        *home,
        options.model,
        options.model_args,
        options.against,
        options.capture,
        options.condition,
        options.trust,
        options.layout,
    )


def path_of(cfg: Optional[str]) -> Optional[Path]:
    """The file that --cfg names, None where it names an architecture."""
    return Path(cfg) if cfg is not None and Path(cfg).suffix in (".yaml", ".yml") else None


def model_files(options: argparse.Namespace) -> List[Path]:
    """The files that a model's options name, as far as they are there."""
    model, against = getattr(options, "model", None) or "", getattr(options, "against", None) or ""
    words = (
        options.cfg or "",
        against,
        getattr(options, "layout", None) or "",
        model.rpartition(":")[0],
        model.partition(":")[2],
    )
    return [*options.weights, *(path for path in map(Path, filter(None, words)) if os.path.isfile(path))]


def size_of(values: Optional[Sequence[int]]) -> Optional[Tuple[int, int]]:
    if values is None:
        return None
    if len(values) > 2:
        raise InputError(f"--img-size takes one or two numbers (height, width), not {len(values)}")
    if min(values) < 1:
        raise InputError(f"--img-size {' '.join(map(str, values))} is not positive")
    return (values[0], values[-1])


def require_writable(*paths: Optional[Path], reads: Sequence[Optional[Path]] = ()) -> None:
    """Raise InputError, before the work begins, for an output that could not be written, is written twice, or is one of the files
    that are read, those that an ONNX file keeps its tensors in included. `-` is standard output."""
    inputs = [path for path in reads if path is not None]
    taken = {one.resolve(): "it is one of the files that are read" for path in inputs for one in (path, *beside(path))}
    for path in filter(None, paths):
        if path == STDOUT:
            key, why = path, taken.get(path, "")
        else:
            key = path.resolve()
            why = taken.get(key) or ("it is a directory" if path.is_dir() else "")
            why = why or ("" if path.parent.is_dir() else "its folder does not exist")
            why = why or (
                "" if os.access(path.parent, os.W_OK) or _is_special(path) else "its folder cannot be written to"
            )
        if why:
            raise InputError(f"cannot write {path}: {why}")
        taken[key] = "two outputs of this command name it"


def _is_special(path: Path) -> bool:
    return path.exists() and not path.is_file()


def require_pages(html: Optional[Path]) -> None:
    """Raise InputError, before the work begins, where an HTML page is requested and could not be made."""
    if html is not None:
        from detparity.reports.html import templates

        templates()


def say(text: str, end: str = "\n", to: Optional[IO[str]] = None) -> None:
    """Print what may quote a file: a terminal that lacks a character shows another, and nothing moves its cursor."""
    stream = sys.stdout if to is None else to
    encoding = getattr(stream, "encoding", None) or "utf-8"
    shown = "\n".join(map(printable, text.split("\n")))
    print(shown.encode(encoding, "replace").decode(encoding), end=end, flush=True, file=stream)


def complain(text: str) -> None:
    """One line on stderr."""
    with contextlib.suppress(OSError, ValueError):  # stderr is closed: the exit code is all that can be given
        say("detparity: " + " ".join(text.split("\n")), to=sys.stderr)


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
