"""`detparity check`: judge exported files against their model, and report."""

from __future__ import annotations

import argparse
import sys
import tempfile
import time
from pathlib import Path
from typing import TYPE_CHECKING, Optional, Sequence

from detparity.cli.console import Console
from detparity.cli.options import (
    PICTURES,
    add_any_model,
    add_cache,
    add_ci,
    add_display,
    add_engine,
    add_images,
    add_model,
    add_nms,
    add_precision,
    cache_of,
    choice_of,
    endpoint_of,
    engines_of,
    images_of,
    model_files,
    opset_of,
    require_images,
    require_nms,
    require_pages,
    require_writable,
    size_of,
)
from detparity.cli.outputs import write_reports
from detparity.core.budget import budget_of
from detparity.core.errors import InputError
from detparity.core.exported_files import exported_files, shard, share_record
from detparity.core.file_kind import require_checkpoint, require_exported
from detparity.core.files import STDOUT, require_file
from detparity.core.runtimes import runtime_files
from detparity.core.signals import held_back
from detparity.core.targets import targets
from detparity.core.verdict import exit_code
from detparity.engines import require_runtime
from detparity.engines.remote import client
from detparity.models.choice import ModelChoice, of_a_package, require_named, require_one_model
from detparity.reports.report import report, unusable_entry

if TYPE_CHECKING:
    from detparity.checks.session import Options
    from detparity.core.endpoint import Endpoint


def add(parser: argparse.ArgumentParser) -> None:
    add_model(parser)
    add_any_model(parser)
    parser.add_argument(
        "artifacts",
        type=Path,
        nargs="*",
        metavar="ARTIFACT",
        help="exported files, or folders of them (default: the demo)",
    )
    parser.add_argument(
        "--shard",
        metavar="I/N",
        help="judge every N-th of the sorted files, from the I-th on; `detparity matrix` merges reports",
    )
    parser.add_argument("--variant", help="what the files promise to be (default: read from each)")
    parser.add_argument(
        "--img-size", type=int, nargs="+", metavar="N", help="height, width, where a file declares none"
    )
    add_nms(parser, None, None, None)
    parser.add_argument(
        "--opset",
        type=int,
        metavar="N",
        help="promised opset (default: from the metadata, else 12, or 18 by torch.export)",
    )
    parser.add_argument("--expectations", type=Path, metavar="FILE", help="known failures of your exporters")
    parser.add_argument(
        "--exporter",
        action="append",
        default=[],
        metavar="NAME",
        help="in the demo, only these exporters, by name or pattern",
    )
    add_images(parser)
    add_precision(parser)
    add_engine(parser)
    parser.add_argument(
        "--for", dest="target", choices=tuple(targets()), help="report what this target is known not to take"
    )
    parser.add_argument("--checks", help="run only these checks, by id or group, separated by commas")
    parser.add_argument("--strict", action="store_true", help="SHOULD findings violate as well")
    parser.add_argument(
        "--quick", action="store_true", help="fewer pictures, sizes and draws, to know sooner (docs/performance.md)"
    )
    parser.add_argument(
        "--no-locate", action="store_true", help="do not look for the module and node in which numbers go wrong"
    )
    parser.add_argument("--json", type=Path, metavar="FILE", help="write the report as JSON")
    parser.add_argument("--html", type=Path, metavar="FILE", help="write the report as one HTML page")
    add_cache(parser)
    add_ci(parser)
    add_display(parser)
    parser.set_defaults(run=run)


def run(options: argparse.Namespace) -> int:
    """Exit codes: 0 conforms, 1 violates, 2 unusable input, 3 incomplete."""
    options.artifacts, options.share = shard(exported_files(options.artifacts), options.shard)
    outputs = (options.json, options.html, options.junit, options.markdown)
    reads = [*options.artifacts, *model_files(options), options.expectations]
    require_writable(*outputs, reads=reads)
    require_pages(options.html)
    require_nms(options)
    require_images(options)
    budget_of(options.budget)
    size_of(options.img_size)
    require_one_model(choice_of(options))
    require_one_file(options.artifacts)
    if not any(outputs) and _foreign_alone(options):
        return exit_code("unusable")
    require_named(choice_of(options), options.artifacts)
    for path in options.weights:
        require_file(path, "a checkpoint")
        require_checkpoint(path)
    choice = of_a_package(choice_of(options))
    endpoint = endpoint_of(options.engine, options.artifacts)
    to = sys.stderr if STDOUT in outputs else sys.stdout  # a report on stdout is all that is there
    display = Console(vars(options), to, options.started)
    with display as console, tempfile.TemporaryDirectory(prefix="detparity-") as scratch:
        console.stage("loading")
        client().start()  # its imports overlap with ours
        with held_back():
            from detparity.cli.check_files import check

        found = check(_asked(options, choice, endpoint), Path(scratch), console, options.as_command)
    write_reports(found, options)
    return exit_code(found["verdict"])


def _asked(options: argparse.Namespace, choice: ModelChoice, endpoint: Optional[Endpoint]) -> Options:
    """What is to be judged, and how."""
    from detparity.artifacts.open import Asked
    from detparity.checks.session import Options

    numbers = (options.iou_thres, options.conf_thres, options.topk_all, options.max_wh, opset_of(options))
    promised = Asked(*numbers, options.precision)
    return Options(
        choice=choice,
        artifacts=tuple(options.artifacts),
        variant=options.variant,
        img_size=size_of(options.img_size),
        promised=promised,
        budget=budget_of(options.budget),
        checks=options.checks,
        strict=options.strict,
        quick=options.quick,
        known_failures=options.expectations,
        exporters=tuple(options.exporter),
        pictures=PICTURES if options.html is not None else 0,
        images=images_of(options),
        endpoint=endpoint,
        cache=cache_of(options),
        engines=() if endpoint is not None else engines_of(options.engine),
        target=options.target or "",
        locate=not (options.no_locate or options.quick),
        share=options.share,
    )


def require_one_file(artifacts: Sequence[Path]) -> None:
    """Raise InputError where none of the files is there to be read: known before anything heavy is imported."""
    problems = []
    for path in artifacts:
        try:
            if runtime_files(path) is None:
                require_file(path, "an exported model")
            return
        except InputError as error:
            problems.append(str(error))
    if problems:
        raise InputError("; ".join(problems))


def _foreign_alone(options: argparse.Namespace) -> bool:
    """Whether none of the files is an exported model, which is then shown: known before anything heavy is imported."""
    entries = []
    for path in dict.fromkeys(options.artifacts):
        try:
            if runtime_files(path) is None:
                require_file(path, "an exported model")
            require_exported(path, runtimes=True)
            require_runtime(path)
            return False
        except InputError as error:
            entries.append(unusable_entry(str(path), str(error)))
    about = {"strict": options.strict, "quick": options.quick, **share_record(options.share), "subject": {}}
    found = report(about, entries, {"engine_seconds": 0.0, "total_seconds": time.monotonic() - options.started})
    console = Console(vars(options), started=options.started)
    for entry in entries:
        console.verdict(entry)
    if entries:
        console.summary(found)
    return bool(entries)
