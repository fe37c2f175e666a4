"""`detparity bench`: time exported files against their model, interleaved."""

from __future__ import annotations

import argparse
import json
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import Any, Dict, Sequence

from detparity.cli.options import (
    add_home_model,
    add_nms,
    choice_of,
    path_of,
    require_nms,
    require_pages,
    require_writable,
    say,
    size_of,
)
from detparity.core.errors import EngineDied, InputError
from detparity.core.files import write_text
from detparity.core.isolate import ending
from detparity.core.signals import held_back
from detparity.models.choice import require_home_named, require_one_model

ANSWER = "answer.json"


def add(parser: argparse.ArgumentParser) -> None:
    add_home_model(parser)
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
    require_writable(options.json, options.html, reads=[*options.artifacts, *options.weights, path_of(options.cfg)])
    require_pages(options.html)
    require_nms(options)
    require_one_model(choice_of(options))
    require_home_named(choice_of(options), options.artifacts)
    for name, least, most in (("batch_size", 1, 100_000), ("threads", 0, 1024), ("rounds", 6, 100_000)):
        if getattr(options, name) is not None and not least <= getattr(options, name) <= most:
            raise InputError(f"--{name.replace('_', '-')} {getattr(options, name)} is outside {least} to {most}")
    with tempfile.TemporaryDirectory(prefix="detparity-") as scratch:
        # As a command, a user's files are timed in a process that can write nowhere else.
        apart = options.as_command and options.artifacts
        result = confined(options.words, Path(scratch)) if apart else measured(options, Path(scratch))
    say(result["text"])
    if result["record"] is None:
        return 1
    if options.json:
        write_text(options.json, json.dumps(result["record"], indent=1) + "\n")
    if options.html:
        from detparity.tools.bench.html import page

        write_text(options.html, page(result["record"]))
    return 0


def measured(options: argparse.Namespace, scratch: Path) -> Dict[str, Any]:
    """What was measured, as `text` and as `record` for the report; without a record, the text says which file is wrong."""
    with held_back():
        from detparity.artifacts.open import Asked
        from detparity.tools.bench import report, run

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
    try:
        found = run.run(asked, scratch, lambda line: say(line, to=sys.stderr))
    except run.WrongFile as wrong:
        return {"text": str(wrong), "record": None}
    return {"text": report.text(found), "record": report.record(found, run.repeat_command(asked))}


def confined(words: Sequence[str], scratch: Path) -> Dict[str, Any]:
    """`measured` in a process of its own. Raises InputError with its line, and EngineDied where a file ended it."""
    command = [sys.executable, "-m", "detparity.cli.bench_process", str(scratch), *words]
    with subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE) as process:
        assert process.stderr is not None
        for line in process.stderr:
            say(line.decode(errors="backslashreplace").rstrip("\n"), to=sys.stderr)
        code = process.wait()
    answer = scratch / ANSWER
    if code or not answer.is_file():
        raise EngineDied("crash", f"ends the process that times it ({ending(code)})")
    found: Dict[str, Any] = json.loads(answer.read_text(encoding="utf-8"))
    if "unusable" in found:
        raise InputError(found["unusable"])
    return found
