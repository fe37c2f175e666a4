"""The `detparity` command and its subcommands. Exit codes: 0 conforms, 1 violates, 2 unusable input, 3 incomplete."""

from __future__ import annotations

import argparse
import json
import os
import sys
import tempfile
from pathlib import Path
from typing import Any, Dict, List, NoReturn, Optional, Sequence, Tuple

from detparity import __version__
from detparity.errors import InputError
from detparity.session import ARCH_WIDTH, FIRST_SEED, ModelChoice


class _Parser(argparse.ArgumentParser):
    """argparse, with a wrong option said in one line like every other unusable input."""

    def error(self, message: str) -> NoReturn:
        raise InputError(f"{message} (`{self.prog} --help` lists the options)")


def main(arguments: Optional[Sequence[str]] = None) -> int:
    """Run the command; unusable input is one line on stderr and exit code 2."""
    try:
        options = _parser().parse_args(arguments)
        return int(options.run(options))
    except InputError as error:
        print(f"detparity: {error}", file=sys.stderr)
        return 2
    except BrokenPipeError:
        # The reader of our output has gone: nothing is left to say, and the interpreter must not try again at exit.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return 2


def _parser() -> argparse.ArgumentParser:
    parser = _Parser(prog="detparity", description="Does the exported detector still do what the model does?")
    parser.add_argument("--version", action="version", version=f"detparity {__version__}")
    commands = parser.add_subparsers(dest="command", required=True, parser_class=_Parser)
    _add_export(commands.add_parser("export", help="export a detector to TorchScript and ONNX"))
    _add_check(commands.add_parser("check", help="judge exported files against their model"))
    _add_bench(commands.add_parser("bench", help="time exported files against their model, in turns"))
    _add_scaling(
        commands.add_parser("scaling", help="measure how cost grows with size, batch, candidates, classes, threads")
    )
    _add_diff(commands.add_parser("diff", help="say what changed between two ONNX files"))
    _add_matrix(commands.add_parser("matrix", help="merge the reports of many environments into one table"))
    _add_golden(commands.add_parser("golden", help="record goldens of your own exports, and compare the next release"))
    _add_review(commands.add_parser("review", help="review goldens that changed: list, show, accept, reject"))
    listing = commands.add_parser("models", help="list every architecture with its size")
    listing.set_defaults(run=_models)
    _add_doctor(commands.add_parser("script-doctor", help="say why a model does not script, and what works instead"))
    listing = commands.add_parser("checks", help="list every check with its level")
    listing.add_argument("--markdown", action="store_true", help="as the reference page docs/checks.md")
    listing.set_defaults(run=_checks)
    listing = commands.add_parser("shims", help="list every compatibility shim with the versions that need it")
    listing.add_argument("--markdown", action="store_true", help="as the reference page docs/shims.md")
    listing.set_defaults(run=_shims)
    return parser


def _add_model(parser: argparse.ArgumentParser) -> None:
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


def _choice(options: argparse.Namespace) -> ModelChoice:
    return ModelChoice(tuple(options.weights), options.arch, options.width, options.seed, options.cfg)


def _img_size(values: Optional[Sequence[int]]) -> Optional[Tuple[int, int]]:
    if values is None:
        return None
    if len(values) > 2:
        raise InputError(f"--img-size takes one or two numbers (height, width), not {len(values)}")
    if min(values) < 1:
        raise InputError(f"--img-size {' '.join(map(str, values))} is not positive")
    return (values[0], values[-1])


def _require_writable(*paths: Optional[Path], reads: Sequence[Path] = ()) -> None:
    """Raise InputError, before the work begins, for an output that could not be written, is written twice, or is one of the files
    that are read."""
    taken = {path.resolve(): "it is one of the files that are read" for path in reads}
    for path in filter(None, paths):
        why = taken.get(path.resolve()) or ("it is a directory" if path.is_dir() else "")
        why = why or ("" if path.parent.is_dir() else "its folder does not exist")
        if why:
            raise InputError(f"cannot write {path}: {why}")
        taken[path.resolve()] = "two outputs of this command name it"


def _require_pages(html: Optional[Path]) -> None:
    """Raise InputError, before the work begins, where an HTML page is wanted and could not be made."""
    if html is not None:
        from detparity.report.html import templates

        templates()


def _say(text: str, end: str = "\n") -> None:
    """Print what may quote a file: a terminal that lacks a character shows another, and nothing moves its cursor."""
    from detparity.failures import printable

    encoding = sys.stdout.encoding or "utf-8"
    shown = "\n".join(map(printable, text.split("\n")))
    print(shown.encode(encoding, "replace").decode(encoding), end=end, flush=True)


def _ask(prompt: str) -> str:
    try:
        return input(prompt)
    except EOFError:
        raise InputError("the terminal was closed: what was not decided still waits") from None


# --- export ---------------------------------------------------------------------------------------------------------


def _add_export(parser: argparse.ArgumentParser) -> None:
    _add_model(parser)
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
        "--dynamo", action="store_true", help="ONNX by way of torch.export; an opset below 18 is converted down to"
    )
    _add_nms(parser, 100, 0.45, 0.25)
    for name in ("--fp16", "--int8", "--include-nms"):
        parser.add_argument(name, action="store_true", help=argparse.SUPPRESS)
    parser.set_defaults(run=_export)


def _export(options: argparse.Namespace) -> int:
    from detparity.exporting import export_files

    for name in ("fp16", "int8", "include_nms"):
        if getattr(options, name):
            raise InputError(f"--{name.replace('_', '-')} is not supported yet")
    if options.mobile and "lite" not in options.include:
        raise InputError("--mobile is for the lite file: add --include lite")
    if options.device != "cpu":
        raise InputError(f"--device {options.device}: only cpu is supported")
    if options.batch_size < 1:
        raise InputError(f"--batch-size {options.batch_size} is not positive")
    size = _img_size(options.img_size)
    assert size is not None
    axes = "dynamic" if options.dynamic else "dynamic-batch" if options.dynamic_batch else "static"
    head, nms = _end2end(options) if options.end2end else ("grid" if options.grid else "raw", None)
    folder = options.output_dir or (options.weights[-1].parent if options.weights else Path("."))
    simplify, batch = options.simplify, options.batch_size
    how = {"opset": _opset(options), "dynamo": options.dynamo, "mobile": options.mobile}
    export_files(_choice(options), head, axes, size, batch, simplify, options.include, folder, print, nms, **how)
    return 0


def _opset(options: argparse.Namespace) -> Optional[int]:
    """Versions of the ONNX standard have grown by one operator set at a time to 26; detectors need 11."""
    if options.opset is not None and not 11 <= options.opset <= 99:
        raise InputError(f"--opset {options.opset} is outside 11 to 99")
    return int(options.opset) if options.opset is not None else None


def _add_nms(parser: argparse.ArgumentParser, cap: Optional[int], iou: Optional[float], score: Optional[float]) -> None:
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


def _require_nms(options: argparse.Namespace) -> None:
    for name, low, high in (
        ("iou_thres", 0.0, 1.0),
        ("conf_thres", 0.0, 1.0),
        ("topk_all", 1, 2**31 - 1),
        ("max_wh", 0.0, 1e9),
    ):
        value = getattr(options, name)
        if value is not None and not low <= value <= high:
            raise InputError(f"--{name.replace('_', '-')} {value:g} is outside {low:g} to {high:g}")


def _end2end(options: argparse.Namespace) -> Tuple[str, Any]:
    """The head and the promise: --max-wh chooses ONNX Runtime, 0 included; without it TensorRT is meant."""
    from detparity.contract import NmsPromise

    _require_nms(options)
    if not options.grid:
        print("note: --end2end implies --grid")
    promise = NmsPromise(options.iou_thres, options.conf_thres, options.topk_all, options.max_wh)
    if options.max_wh is not None:
        return "end2end-ort", promise
    return ("end2end-trt-nms" if options.standard_nms else "end2end-trt"), promise


# --- check ----------------------------------------------------------------------------------------------------------


def _add_check(parser: argparse.ArgumentParser) -> None:
    _add_model(parser)
    parser.add_argument(
        "artifacts", type=Path, nargs="*", metavar="ARTIFACT", help="exported files (default: the demo)"
    )
    parser.add_argument("--variant", help="what the files promise to be (default: read from each)")
    parser.add_argument(
        "--img-size", type=int, nargs="+", metavar="N", help="height, width, where a file declares none"
    )
    _add_nms(parser, None, None, None)
    parser.add_argument(
        "--opset",
        type=int,
        metavar="N",
        help="promised opset (default: from the metadata, else 12, or 18 by torch.export)",
    )
    parser.add_argument("--expectations", type=Path, metavar="FILE", help="known debts of your exporters")
    parser.add_argument(
        "--exporter",
        action="append",
        default=[],
        metavar="NAME",
        help="in the demo, only these exporters, by name or pattern",
    )
    parser.add_argument("--checks", help="run only these checks, by id or room, separated by commas")
    parser.add_argument("--strict", action="store_true", help="SHOULD findings violate as well")
    parser.add_argument(
        "--quick", action="store_true", help="fewer pictures, sizes and draws, to know sooner (docs/performance.md)"
    )
    parser.add_argument("--json", type=Path, metavar="FILE", help="write the report as JSON")
    parser.add_argument("--html", type=Path, metavar="FILE", help="write the report as one HTML page")
    parser.add_argument("--junit", type=Path, metavar="FILE", help="write JUnit XML")
    parser.set_defaults(run=_check)


def _check(options: argparse.Namespace) -> int:
    from detparity import checking
    from detparity.intake import Asked

    _require_writable(options.json, options.html, options.junit, reads=[*options.artifacts, *options.weights])
    _require_pages(options.html)
    _require_nms(options)
    asked = Asked(options.iou_thres, options.conf_thres, options.topk_all, options.max_wh, _opset(options))
    size = _img_size(options.img_size)
    request = checking.Request(
        _choice(options),
        tuple(options.artifacts),
        options.variant,
        size,
        options.checks,
        options.strict,
        options.junit,
        asked,
        options.expectations,
        tuple(options.exporter),
        options.quick,
    )
    with tempfile.TemporaryDirectory(prefix="detparity-") as scratch:
        found = checking.run(request, Path(scratch), lambda text: print(text, flush=True))
    _write_reports(found, options)
    return checking.exit_code(found)


def _write_reports(found: Dict[str, Any], options: argparse.Namespace) -> None:
    from detparity.files import write_text

    if options.json:
        write_text(options.json, json.dumps(found, indent=1) + "\n")
    if options.html:
        from detparity.report.html import page

        write_text(options.html, page(found))


# --- bench ----------------------------------------------------------------------------------------------------------


def _add_bench(parser: argparse.ArgumentParser) -> None:
    _add_model(parser)
    parser.add_argument(
        "artifacts", type=Path, nargs="*", metavar="ARTIFACT", help="exported files (default: some of the kit's own)"
    )
    parser.add_argument("--variant", help="what the files promise to be (default: read from each)")
    parser.add_argument(
        "--img-size", type=int, nargs="+", metavar="N", help="height, width, where a file leaves it open"
    )
    parser.add_argument("--batch-size", type=int, metavar="N", help="where a file leaves it open (default 1)")
    _add_nms(parser, None, None, None)
    parser.add_argument(
        "--threads", type=int, default=0, metavar="N", help="threads inside an operator (default: all cores)"
    )
    parser.add_argument("--rounds", type=int, default=50, metavar="N", help="runs of each (default %(default)s)")
    parser.add_argument(
        "--baseline", type=Path, metavar="FILE", help="compare with this file (default: the model itself)"
    )
    parser.add_argument("--no-profile", action="store_true", help="do not say where the time goes in ONNX files")
    parser.add_argument("--json", type=Path, metavar="FILE", help="write everything measured as JSON")
    parser.add_argument("--html", type=Path, metavar="FILE", help="write tables and charts as one HTML page")
    parser.set_defaults(run=_bench)


def _bench(options: argparse.Namespace) -> int:
    """Exit codes: 0 measured, 1 a file is wrong and was not timed, 2 unusable input."""
    from detparity.bench import command, telling
    from detparity.files import write_text
    from detparity.intake import Asked

    _require_writable(options.json, options.html, reads=[*options.artifacts, *options.weights])
    _require_pages(options.html)
    _require_nms(options)
    for name, least in (("batch_size", 1), ("threads", 0), ("rounds", 1)):
        if getattr(options, name) is not None and not least <= getattr(options, name) <= 100_000:
            raise InputError(f"--{name.replace('_', '-')} {getattr(options, name)} is outside {least} to 100000")
    promise = Asked(options.iou_thres, options.conf_thres, options.topk_all, options.max_wh)
    asked = command.Asked(
        _choice(options),
        tuple(options.artifacts),
        options.variant,
        _img_size(options.img_size),
        promise,
        options.batch_size,
        options.threads,
        options.rounds,
        options.baseline,
        not options.no_profile,
    )
    with tempfile.TemporaryDirectory(prefix="detparity-") as scratch:
        try:
            measured = command.run(asked, Path(scratch), lambda line: print(line, file=sys.stderr, flush=True))
        except command.WrongFile as wrong:
            _say(str(wrong))
            return 1
        found = telling.record(measured, command.repeat_command(asked))
    _say(telling.text(measured))
    if options.json:
        write_text(options.json, json.dumps(found, indent=1) + "\n")
    if options.html:
        from detparity.bench.page import page

        write_text(options.html, page(found))
    return 0


# --- scaling --------------------------------------------------------------------------------------------------------


def _add_scaling(parser: argparse.ArgumentParser) -> None:
    _add_model(parser)
    parser.add_argument(
        "--markdown",
        type=Path,
        metavar="FILE",
        help="write the page, its charts in a folder beside it (default: print it)",
    )
    parser.set_defaults(run=_scaling)


def _scaling(options: argparse.Namespace) -> int:
    from detparity.bench import scaling
    from detparity.files import write_text

    _require_writable(options.markdown)
    folder = options.markdown.with_suffix("") if options.markdown is not None else None
    if folder is not None and (folder == options.markdown or (folder.exists() and not folder.is_dir())):
        raise InputError(
            f"cannot write {options.markdown}: its charts want a folder called {folder}; give the page an ending"
        )
    with tempfile.TemporaryDirectory(prefix="detparity-") as scratch:
        found = scaling.run(_choice(options), Path(scratch), lambda line: print(line, file=sys.stderr, flush=True))
    if folder is None:
        _say(scaling.page(found), end="")
        return 0
    try:
        folder.mkdir(exist_ok=True)
    except OSError as error:
        raise InputError(f"cannot write {folder}: {error.strerror}") from None
    for key, drawing in scaling.drawings(found).items():
        write_text(folder / f"{key}.svg", drawing + "\n")
    write_text(options.markdown, scaling.page(found, folder.name))
    print(f"wrote {options.markdown}, its charts in {folder}")
    return 0


# --- diff -----------------------------------------------------------------------------------------------------------


def _add_diff(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("a", type=Path, metavar="A.onnx", help="what it was")
    parser.add_argument("b", type=Path, metavar="B.onnx", help="what it is now")
    parser.add_argument("--json", type=Path, metavar="FILE", help="write the comparison as JSON")
    parser.set_defaults(run=_diff)


def _diff(options: argparse.Namespace) -> int:
    """Exit codes: 0 no difference, 1 they differ, 2 unusable input."""
    from detparity import diffing
    from detparity.files import write_text

    _require_writable(options.json, reads=[options.a, options.b])
    found = diffing.diff(options.a, options.b)
    if options.json is not None:
        write_text(options.json, json.dumps(diffing.record(found), indent=1) + "\n")
    _say(diffing.text(found))
    return 0 if found.same else 1


# --- matrix ---------------------------------------------------------------------------------------------------------


def _add_matrix(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "reports", type=Path, nargs="+", metavar="REPORT", help="reports of check, matrices, or folders that hold them"
    )
    parser.add_argument("--markdown", type=Path, metavar="FILE", help="write the table as Markdown (default: print it)")
    parser.add_argument("--html", type=Path, metavar="FILE", help="write the table as one HTML page")
    parser.add_argument("--json", type=Path, metavar="FILE", help="write the table as JSON, to be merged again")
    parser.add_argument(
        "--expect", metavar="LANES", help="lanes that must have a report, such as py39-torch1.7,py313-torch2.15"
    )
    parser.set_defaults(run=_matrix)


def _matrix(options: argparse.Namespace) -> int:
    from detparity.report import matrix, matrix_html, matrix_markdown, matrix_read
    from detparity.report.build import exit_code
    from detparity.report.matrix_view import counts

    asked = {"--markdown": options.markdown, "--html": options.html, "--json": options.json}
    outputs = {name: path for name, path in asked.items() if path is not None}
    _require_writable(*outputs.values())
    expected = [] if options.expect is None else options.expect.split(",")
    lanes = [matrix.require_lane(name.strip()) for name in expected]
    merged = matrix.merge(matrix_read.read(options.reports, tuple(outputs.values())), lanes)
    pages = {"--markdown": matrix_markdown.page, "--html": matrix_html.page, "--json": matrix.to_json}
    texts = {path: pages[name](merged) for name, path in outputs.items()}  # all of them, before the first is written
    _write_pages(texts, matrix_markdown.page(merged) if not texts else "")
    if texts:
        print(f"Verdict: {merged.verdict} ({counts(merged)})")
    return exit_code(merged.verdict)


def _write_pages(texts: Dict[Path, str], shown: str) -> None:
    from detparity.files import write_text

    for path, text in texts.items():
        write_text(path, text)
        print(f"wrote {path}")
    _say(shown, end="")


# --- golden files ---------------------------------------------------------------------------------------------------


def _add_golden(parser: argparse.ArgumentParser) -> None:
    verbs = parser.add_subparsers(dest="verb", required=True, parser_class=_Parser)
    for verb, about in (
        ("record", "record the goldens of a file for the first time"),
        ("check", "compare a file with them"),
    ):
        one = verbs.add_parser(verb, help=about)
        one.add_argument("artifact", type=Path, metavar="ARTIFACT", help="the exported file")
        _add_model(one)
        one.add_argument("--name", required=True, help="what the goldens go by, such as car-detector")
        one.add_argument("--variant", help="what the file promises to be (default: read from it)")
        one.add_argument(
            "--img-size", type=int, nargs="+", metavar="N", help="height, width, where the file declares none"
        )
        _add_nms(one, None, None, None)
        one.add_argument("--opset", type=int, metavar="N", help="promised opset")
        one.add_argument("--golden", type=Path, default=Path("golden"), metavar="DIR", help="where goldens lie")
        if verb == "record":
            one.add_argument("--why", default="first recorded", metavar="TEXT", help="what the index says of them")
            one.add_argument("--parity-lost", action="store_true", help="record a file that is not what the model is")
        else:
            one.add_argument("--pending", type=Path, metavar="DIR", help="where to put what waits for review")
        one.set_defaults(run=_golden)
    gone = verbs.add_parser("remove", help="take a golden that no test asks for away, with its entry")
    gone.add_argument("name", metavar="NAME", help="such as graph/car-detector")
    gone.add_argument("--golden", type=Path, metavar="DIR", help="where goldens lie")
    gone.set_defaults(run=_golden_remove)


def _golden(options: argparse.Namespace) -> int:
    from detparity.golden import command
    from detparity.golden.judging import Place
    from detparity.golden.pending import folder_for
    from detparity.intake import Asked

    _require_nms(options)
    promise = Asked(options.iou_thres, options.conf_thres, options.topk_all, options.max_wh, _opset(options))
    size = _img_size(options.img_size)
    asked = command.Asked(options.artifact, _choice(options), options.name, options.variant, size, promise)
    if options.verb == "record":
        place = Place(options.golden, folder_for(options.golden))
        return command.record_all(asked, place, options.why, options.parity_lost, _say)
    return command.check_all(asked, Place(options.golden, folder_for(options.golden, options.pending)), _say)


def _golden_remove(options: argparse.Namespace) -> int:
    from detparity.golden.command import default_places
    from detparity.golden.index import discard

    folder, _ = default_places(options.golden, None)
    discard(folder, options.name)
    print(f"removed {options.name}")
    return 0


def _add_review(parser: argparse.ArgumentParser) -> None:
    parser.set_defaults(run=_review, verb=None, name=None)
    verbs = parser.add_subparsers(dest="verb", parser_class=_Parser)
    everywhere = [parser]
    for verb, about in (
        ("list", "what waits, in groups that changed alike"),
        ("show", "what changed in one golden, in words, with its picture and whether parity holds"),
        ("accept", "make goldens of what waits"),
        ("reject", "take away what waits; the golden stays"),
    ):
        one: argparse.ArgumentParser = verbs.add_parser(verb, help=about)
        everywhere.append(one)
        if verb != "list":
            one.add_argument("name", metavar="NAME", help="such as graph/grid")
        if verb in ("accept", "reject"):
            one.add_argument("--same", action="store_true", help="and all that changed in the same way")
        if verb == "accept":
            one.add_argument("--why", default="", metavar="TEXT", help="the reason, which the index records")
            one.add_argument(
                "--parity-lost", action="store_true", help="although it no longer does what the model does"
            )
    for place in everywhere:
        # Given once, before or after the verb: a default of its own would undo the other.
        missing = None if place is parser else argparse.SUPPRESS
        place.add_argument("--golden", type=Path, default=missing, metavar="DIR", help="where goldens lie")
        place.add_argument(
            "--from",
            dest="pending",
            type=Path,
            default=missing,
            metavar="DIR",
            help="what waits, such as a CI artifact",
        )


def _review(options: argparse.Namespace) -> int:
    """Exit codes: 0 done or nothing waits, 1 something still waits, 2 unusable input."""
    from detparity.golden import review
    from detparity.golden.command import default_places
    from detparity.golden.judging import Place
    from detparity.golden.pending import folder_for
    from detparity.golden.picture import draw

    golden, arguments = default_places(options.golden, options.pending)
    if options.pending is not None and not options.pending.is_dir():
        raise InputError(f"--from {options.pending}: no such folder")
    found = review.open_review(Place(golden, folder_for(golden, options.pending)), arguments)
    if options.verb in ("accept", "reject"):
        one = review.named(found, options.name)
        chosen = review.alike(found, one) if options.same else [one]
        if options.verb == "accept":
            lines = review.accept(found, chosen, options.why, options.parity_lost)
        else:
            lines = review.reject(found, chosen)
        _say("\n".join(lines))
        return 0
    if options.verb == "show":
        _say(review.showing(found, review.named(found, options.name), draw))
        return 1
    _say(review.listing(found))
    if not found.waiting:
        return 0
    if options.verb is None and sys.stdin.isatty() and sys.stdout.isatty():
        return 1 if review.walk(found, draw, _ask, _say) else 0
    _say("\nThese commands show and decide:\n\n" + "\n".join(f"  {line}" for line in review.commands(found)))
    return 1


# --- models ---------------------------------------------------------------------------------------------------------


def _models(options: argparse.Namespace) -> int:
    from detparity.detectors.architectures import ARCHITECTURES
    from detparity.detectors.listing import listed

    heading = ("name", "head", "layers", "parameters", "fp16", "strides", "image")
    shape = "{:24}  {:10}  {:>6}  {:>11}  {:>8}  {:>14}  {:>5}"
    print(shape.format(*heading))
    for name in ARCHITECTURES:  # one at a time: with an old torch this takes a while
        one = listed(name)
        size, strides = f"{one.megabytes:.1f} MB", ", ".join(map(str, one.strides))
        row = (one.name, one.head, one.layers, f"{one.parameters:,}", size, strides, one.side)
        print(shape.format(*row), flush=True)
    print("\nA name without `deploy-` or `baseline-` does as well: yolov7-tiny, yolov3.")
    return 0


# --- script-doctor --------------------------------------------------------------------------------------------------


def _add_doctor(parser: argparse.ArgumentParser) -> None:
    _add_model(parser)
    group = parser.add_argument_group("a model of your own")
    group.add_argument(
        "--model",
        metavar="FILE.py:NAME",
        help="a class, an instance or a function that returns one. This runs the code of FILE, which no other command does",
    )
    group.add_argument("--args", metavar="LITERALS", help="arguments of the class or function, such as '80, width=0.5'")
    parser.add_argument(
        "--call-site",
        type=Path,
        nargs="+",
        default=[],
        metavar="FILE.py",
        help="read (never run) these files for calls of torch.jit.script that are handed a result; alone, only that is done",
    )
    parser.add_argument("--json", type=Path, metavar="FILE", help="write the diagnosis as JSON")
    parser.set_defaults(run=_doctor)


def _doctor(options: argparse.Namespace) -> int:
    """Exit codes: 0 it scripts and can be saved, 1 it does not, or a call site scripts a result, 2 unusable input."""
    from detparity.doctor import telling
    from detparity.doctoring import Request, diagnose
    from detparity.facts import environment
    from detparity.files import write_text

    _require_writable(options.json)
    if options.model is not None and (options.weights or options.cfg is not None or options.arch is not None):
        raise InputError("--model and --weights, --cfg or --arch both choose the model; give one of them")
    if options.args is not None and options.model is None:
        raise InputError("--args goes with --model")
    found = diagnose(Request(_choice(options), options.model, options.args, tuple(options.call_site)))
    if options.json is not None:
        write_text(options.json, json.dumps(telling.record(found, environment()), indent=1) + "\n")
    print(telling.text(found))
    return 0 if found.healthy else 1


# --- checks ---------------------------------------------------------------------------------------------------------


def _checks(options: argparse.Namespace) -> int:
    from detparity.checks import registry
    from detparity.failures import columns
    from detparity.report.reference import page

    if options.markdown:
        print(page(registry().values()), end="")
        return 0
    rows: List[Tuple[str, ...]] = [(check.id, check.level, check.about) for check in registry().values()]
    print("\n".join(columns(rows, "")))
    return 0


def _shims(options: argparse.Namespace) -> int:
    from detparity.compat import shims
    from detparity.failures import columns
    from detparity.report.reference import shims_page

    found = shims.registry()
    if options.markdown:
        print(shims_page(found), end="")
        return 0
    rows: List[Tuple[str, ...]] = [
        (name, str(module.__doc__).strip().splitlines()[0]) for name, module in found.items()
    ]
    print("\n".join(columns(rows, "")))
    return 0


if __name__ == "__main__":
    sys.exit(main())
