"""`detparity check`: judge exported files against their model, and report."""

from __future__ import annotations

import argparse
import contextlib
import json
import tempfile
import time
from pathlib import Path
from typing import Any, Callable, Dict, List, Mapping

from detparity.cli.options import (
    add_model,
    add_nms,
    choice_of,
    opset_of,
    require_nms,
    require_pages,
    require_writable,
    size_of,
)
from detparity.core.errors import InputError
from detparity.core.files import write_text
from detparity.core.verdict import exit_code

Say = Callable[[str], None]


def add(parser: argparse.ArgumentParser) -> None:
    add_model(parser)
    parser.add_argument(
        "artifacts", type=Path, nargs="*", metavar="ARTIFACT", help="exported files (default: the demo)"
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
    parser.add_argument("--checks", help="run only these checks, by id or group, separated by commas")
    parser.add_argument("--strict", action="store_true", help="SHOULD findings violate as well")
    parser.add_argument(
        "--quick", action="store_true", help="fewer pictures, sizes and draws, to know sooner (docs/performance.md)"
    )
    parser.add_argument("--json", type=Path, metavar="FILE", help="write the report as JSON")
    parser.add_argument("--html", type=Path, metavar="FILE", help="write the report as one HTML page")
    parser.add_argument("--junit", type=Path, metavar="FILE", help="write JUnit XML")
    parser.set_defaults(run=run)


def run(options: argparse.Namespace) -> int:
    """Exit codes: 0 conforms, 1 violates, 2 unusable input, 3 incomplete."""
    require_writable(options.json, options.html, options.junit, reads=[*options.artifacts, *options.weights])
    require_pages(options.html)
    require_nms(options)
    from detparity.artifacts.open import Asked
    from detparity.checks.run import Options

    promised = Asked(options.iou_thres, options.conf_thres, options.topk_all, options.max_wh, opset_of(options))
    asked = Options(
        choice=choice_of(options),
        artifacts=tuple(options.artifacts),
        variant=options.variant,
        img_size=size_of(options.img_size),
        promised=promised,
        checks=options.checks,
        strict=options.strict,
        quick=options.quick,
        known_failures=options.expectations,
        exporters=tuple(options.exporter),
    )
    with tempfile.TemporaryDirectory(prefix="detparity-") as scratch:
        found = check(asked, Path(scratch), lambda text: print(text, flush=True))
    _write_reports(found, options)
    return exit_code(found["verdict"])


def check(asked: Any, scratch: Path, say: Say) -> Dict[str, Any]:
    """Judge every artifact, or what the own exporters make where none is given, and return the report.

    asked: `checks.run.Options`; scratch: a folder for exports. Raises InputError where the model or an option cannot be used.
    """
    from detparity import checks
    from detparity.checks.run import Session, heads_of
    from detparity.core.vocabulary import EngineDied, variant_names
    from detparity.tools.export_cache import KitExports

    if asked.checks:
        checks.select(asked.checks)
    if asked.variant is not None and asked.variant not in variant_names():
        raise InputError(f"unknown variant {asked.variant!r}: known are {', '.join(variant_names())}")
    if asked.artifacts and asked.exporters:
        raise InputError("--exporter chooses among the kit's own exporters; it does not go with files")
    start = time.perf_counter()
    session = Session(asked, None if asked.artifacts else KitExports(scratch))
    _ = session.detector, session.exporters()
    unusable: List[Dict[str, Any]] = []
    usable: List[Path] = []
    for path in dict.fromkeys(asked.artifacts):
        try:
            with contextlib.suppress(EngineDied):  # a finding, which `subjects` knows of
                session.open(path)
            usable.append(path)
        except InputError as error:
            unusable.append({"path": str(path), "verdict": "unusable", "reason": str(error), "checks": []})
    subjects = session.subjects(usable)
    if subjects:
        session.require_known_failures_met(subjects)
    session.heads = heads_of(session, subjects)
    return _reported(session, subjects, unusable, start, say)


def _reported(session: Any, subjects: Any, unusable: List[Dict[str, Any]], start: float, say: Say) -> Dict[str, Any]:
    from detparity.checks.run import about, judge_all
    from detparity.reports.recorder import Recorder
    from detparity.reports.report import report
    from detparity.reports.terminal import artifact_text, verdict_line

    strict = session.options.strict
    recorder = Recorder(strict)
    for subject in subjects:
        entry: Mapping[str, Any] = {}
        for judged in judge_all(session, [subject]):
            entry = recorder.add(judged.record)
        if entry:
            say(artifact_text(entry, strict))
    timings = {
        "engine_seconds": session.clock.engine,
        "total_seconds": time.perf_counter() - start,
        "truths_asked": session.oracle.asked,
        "truths_worked_out": session.oracle.worked_out,
    }
    found = report(about(session), [*recorder.entries.values(), *unusable], timings)
    for entry in unusable:
        say(artifact_text(entry))
    say(verdict_line(found))
    return found


def _write_reports(found: Dict[str, Any], options: argparse.Namespace) -> None:
    if options.json:
        write_text(options.json, json.dumps(found, indent=1) + "\n")
    if options.html:
        from detparity.reports.html import page

        write_text(options.html, page(found))
    if options.junit:
        from detparity.reports import junit

        write_text(options.junit, junit.page(found))
