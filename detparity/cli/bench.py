"""`detparity bench`: time exported files against their model, interleaved."""

from __future__ import annotations

import argparse
import json
import sys
import tempfile
from pathlib import Path

from detparity.cli.options import (
    add_model,
    add_nms,
    choice_of,
    require_nms,
    require_pages,
    require_writable,
    say,
    size_of,
)
from detparity.core.errors import InputError


def add(parser: argparse.ArgumentParser) -> None:
    add_model(parser)
    parser.add_argument(
        "artifacts", type=Path, nargs="*", metavar="ARTIFACT", help="exported files (default: some of the kit's own)"
    )
    parser.add_argument("--variant", help="what the files promise to be (default: read from each)")
    parser.add_argument(
        "--img-size", type=int, nargs="+", metavar="N", help="height, width, where a file leaves it open"
    )
    parser.add_argument("--batch-size", type=int, metavar="N", help="where a file leaves it open (default 1)")
    add_nms(parser, None, None, None)
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
    parser.set_defaults(run=run)


def run(options: argparse.Namespace) -> int:
    """Exit codes: 0 measured, 1 a file is wrong and was not timed, 2 unusable input."""
    from detparity.artifacts.open import Asked
    from detparity.core.files import write_text
    from detparity.tools.bench import report, run

    require_writable(options.json, options.html, reads=[*options.artifacts, *options.weights])
    require_pages(options.html)
    require_nms(options)
    for name, least in (("batch_size", 1), ("threads", 0), ("rounds", 1)):
        if getattr(options, name) is not None and not least <= getattr(options, name) <= 100_000:
            raise InputError(f"--{name.replace('_', '-')} {getattr(options, name)} is outside {least} to 100000")
    promise = Asked(options.iou_thres, options.conf_thres, options.topk_all, options.max_wh)
    asked = run.Asked(
        choice_of(options),
        tuple(options.artifacts),
        options.variant,
        size_of(options.img_size),
        promise,
        options.batch_size,
        options.threads,
        options.rounds,
        options.baseline,
        not options.no_profile,
    )
    with tempfile.TemporaryDirectory(prefix="detparity-") as scratch:
        try:
            measured = run.run(asked, Path(scratch), lambda line: print(line, file=sys.stderr, flush=True))
        except run.WrongFile as wrong:
            say(str(wrong))
            return 1
        found = report.record(measured, run.repeat_command(asked))
    say(report.text(measured))
    if options.json:
        write_text(options.json, json.dumps(found, indent=1) + "\n")
    if options.html:
        from detparity.tools.bench.html import page

        write_text(options.html, page(found))
    return 0
