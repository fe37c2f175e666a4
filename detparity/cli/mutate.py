"""`detparity mutate`: change a file that conforms, one thing at a time, and say which changes the checks do not see."""

from __future__ import annotations

import argparse
import json
import sys
import tempfile
import time
from pathlib import Path
from typing import TYPE_CHECKING, Any, Dict, Tuple

from detparity.cli.check import require_one_file
from detparity.cli.console import Console
from detparity.cli.options import (
    add_any_model,
    add_cache,
    add_display,
    add_images,
    add_model,
    add_nms,
    add_precision,
    cache_of,
    choice_of,
    images_of,
    model_files,
    opset_of,
    require_images,
    require_nms,
    require_writable,
    size_of,
)
from detparity.core.budget import budget_of
from detparity.core.environment import usable_cores
from detparity.core.errors import InputError
from detparity.core.file_kind import require_checkpoint
from detparity.core.files import require_file, sha256
from detparity.core.signals import held_back
from detparity.core.version import __version__
from detparity.engines.remote import client
from detparity.models.choice import of_a_package, require_named, require_one_model

if TYPE_CHECKING:
    from detparity.checks.session import Options
    from detparity.tools.mutate.run import Plan

LIMIT = 100
ENDING = ".mutants.jsonl"
UNDECIDED_CODE = 3


def add(parser: argparse.ArgumentParser) -> None:
    add_model(parser)
    add_any_model(parser)
    parser.add_argument("artifact", type=Path, metavar="ARTIFACT", help="an exported file (.onnx) that conforms")
    parser.add_argument("--limit", type=int, default=LIMIT, metavar="N", help="mutants (default %(default)s)")
    parser.add_argument("--mutant-seed", type=int, default=0, metavar="N", help="they are drawn by (default 0)")
    parser.add_argument("--kinds", metavar="GROUPS", help="only these groups of changes, separated by commas")
    parser.add_argument("--jobs", type=int, default=0, metavar="N", help="processes (default: one a core)")
    parser.add_argument(
        "--results",
        type=Path,
        metavar="FILE",
        help=f"a line for each mutant, which another run goes on with (default: NAME{ENDING})",
    )
    parser.add_argument("--share", help=argparse.SUPPRESS)
    parser.add_argument("--variant", help="what the file promises to be (default: read from it)")
    parser.add_argument("--img-size", type=int, nargs="+", metavar="N", help="height, width, where it declares none")
    add_nms(parser, None, None, None)
    parser.add_argument("--opset", type=int, metavar="N", help="promised opset (default: its own)")
    parser.add_argument("--strict", action="store_true", help="a SHOULD finding kills as well")
    add_images(parser)
    add_precision(parser)
    add_cache(parser)
    add_display(parser)
    parser.set_defaults(run=run)


def run(options: argparse.Namespace) -> int:
    """Exit codes: 0 every mutant was killed or is equivalent, 1 one survived, 2 unusable input, 3 none survived and of one the verdict
    is incomplete."""
    path = options.artifact
    results = options.results or Path(path.name + ENDING)
    require_writable(results, reads=[path, *model_files(options)])
    require_nms(options)
    require_images(options)
    choice = choice_of(options)
    require_one_model(choice)
    require_one_file([path])
    require_named(choice, [path])
    for weights in options.weights:
        require_file(weights, "a checkpoint")
        require_checkpoint(weights)
    _require_onnx(path)
    if options.limit < 1 or options.jobs < 0:
        raise InputError("--limit and --jobs are numbers from 1 on")
    display = Console({**vars(options), "quiet": options.quiet or bool(options.share)}, sys.stdout, options.started)
    with display as console, tempfile.TemporaryDirectory(prefix="detparity-") as scratch:
        console.stage("loading")
        client().start()
        with held_back():
            from detparity.tools.mutate.run import Plan
        plan = Plan(options.mutant_seed, options.limit, _groups(options.kinds), _share(options.share))
        return _mutated(options, plan, results, (console, Path(scratch)))


def _mutated(options: argparse.Namespace, plan: Plan, path: Path, where: Tuple[Console, Path]) -> int:
    from detparity.tools.mutate import run as running
    from detparity.tools.mutate.judging import UNDECIDED, Bench
    from detparity.tools.mutate.results import Results, read, score, survivors, table

    console, scratch = where
    if options.share:  # of another process, which writes the file
        known = read(path)[1]
        for record in running.judge(Bench(_asked(options)), plan, lambda number: number in known, scratch):
            print(json.dumps(record), flush=True)
        return 0
    console.stage("loading the model")
    asked = _asked(options)
    bench = Bench(asked)
    results = Results(path, {**_about(options, plan), "model": bench.model, "promise": _promises(asked)})
    console.stage("whether it conforms", options.artifact.name)
    problem = "" if results.records else bench.problem()  # an earlier run has seen it
    if problem:
        raise InputError(f"{options.artifact} does not conform, and mutants are made of a file that does: {problem}")
    results.begin()
    start, before = time.monotonic(), len(results.records)
    jobs = min(options.jobs or usable_cores(), plan.limit)
    show = _progress(console, plan.limit, results)
    running.run(bench, plan, results, options.words, (scratch, jobs, show))
    console.stage("")
    records = [results.records[number] for number in sorted(results.records) if number < plan.limit]
    for line in [] if options.quiet else table(records):
        console(line)
    console(
        f"{score(records)}{_pace(len(results.records) - before, time.monotonic() - start)}; {path} has a line for each"
    )
    left = {record["outcome"] for record in survivors(records)}
    return 0 if not left else UNDECIDED_CODE if left == {UNDECIDED} else 1


def _about(options: argparse.Namespace, plan: Plan) -> Dict[str, Any]:
    """What results are of, beside the model and what the file promises."""
    drawn = {"seed": plan.seed, "groups": list(plan.groups)}
    against = " ".join(choice_of(options).arguments)
    return {"file": sha256(options.artifact), **drawn, "detparity": __version__, "against": against}


def _promises(asked: Options) -> str:
    """The options that a verdict follows from, in one line."""
    images = asked.images.arguments if asked.images is not None else []
    words = [
        *asked.promised.arguments,
        *images,
        f"--budget {asked.budget.text}",
        *(["--strict"] if asked.strict else []),
    ]
    return " ".join(map(str, (asked.variant or "", *(asked.img_size or ()), *words))).strip()


def _progress(console: Console, limit: int, results: Any) -> Any:
    def show(record: Dict[str, Any]) -> None:
        done = len(results.records)
        console.stage(f"mutant {done} of {limit}, {record['kind']}: {record['outcome']} {record.get('by', '')}")
        if console.verbose or (record["outcome"] == "survived" and not console.quiet):
            by = f" by {record['by']}" if "by" in record else ""
            console(
                f"mutant {record['mutant']}, {record['kind']}, at {record['where']} {record['about']}: {record['outcome']}{by}",
                to=sys.stderr,
            )

    return show


def _pace(count: int, seconds: float) -> str:
    return f" in {seconds:.0f} s, {60 * count / max(seconds, 1e-9):.0f} a minute" if count else ""


def _require_onnx(path: Path) -> None:
    from detparity.checks.foreign.open_file import kind_of

    kind = kind_of(path)
    if kind != "onnx":
        raise InputError(f"{path} is a file of {kind}: mutants are made of ONNX files alone")


def _groups(names: Any) -> Tuple[str, ...]:
    from detparity.artifacts.onnx_file_mutations import GROUPS

    asked = [name.strip() for name in (names or "").split(",") if name.strip()]
    unknown = [name for name in asked if name not in GROUPS]
    if unknown:
        raise InputError(f"--kinds {unknown[0]} is none of {', '.join(GROUPS)}")
    return tuple(asked) or tuple(GROUPS)


def _share(text: Any) -> Tuple[int, int]:
    if not text:
        return 0, 1
    mine, _, of = str(text).partition("/")
    return int(mine), int(of)


def _asked(options: argparse.Namespace) -> Options:
    from detparity.artifacts.open import Asked
    from detparity.checks.session import Options

    numbers = (options.iou_thres, options.conf_thres, options.topk_all, options.max_wh, opset_of(options))
    return Options(
        choice=of_a_package(choice_of(options)),
        artifacts=(options.artifact,),
        variant=options.variant,
        img_size=size_of(options.img_size),
        promised=Asked(*numbers, options.precision),
        budget=budget_of(options.budget),
        strict=options.strict,
        images=images_of(options),
        cache=cache_of(options),
    )
