"""What follows a captured command: the captures are stored where that was asked for, judged, and reported."""

from __future__ import annotations

import argparse
import sys
from dataclasses import replace
from pathlib import Path
from typing import Any, Dict, List, Mapping

from detparity.checks import captured
from detparity.checks.foreign.layout_file import layout_of
from detparity.checks.foreign.open_file import ForeignSource
from detparity.checks.run import Options, Session, about, judge_all
from detparity.cli.check_files import judge
from detparity.cli.console import Console
from detparity.cli.options import PICTURES, images_of
from detparity.core.contract import MUST
from detparity.core.errors import InputError
from detparity.core.files import sha256
from detparity.core.text import columns
from detparity.core.verdict import EXIT, overall
from detparity.models.capture import CapturedCall, Captures
from detparity.models.captured_reference import by_file, promises_of, reference_of
from detparity.reports.recorder import Recorder
from detparity.reports.report import report, unusable_entry


def judge_captures(captures: Captures, options: Mapping[str, Any], code: int = 0) -> int:
    """Report what was captured, and return the verdict's exit code. options: of `detparity capture`; code: how the command ended."""
    to = sys.stderr if options.get("json") == "-" else sys.stdout
    with Console(options, to, options.get("started")) as console:
        return _judged(captures, options, code, console)


def _judged(captures: Captures, options: Mapping[str, Any], code: int, console: Console) -> int:
    """Store, judge and report; the verdict's exit code."""
    if options.get("keep"):
        from detparity.models.capture_store import write

        write(captures, Path(options["keep"]))
    rows = captured.table(captures)
    if len(rows) > 1:
        console("\n".join(columns(rows)) + "\n")
    verdicts = [_calls_verdict(captures, code, console)]
    if any(captured.judged_here(path) for call in captures for path in call.files):
        found = judge_files(captures, options, console)
        verdicts.append(found["verdict"])
        found["verdict"] = overall([verdict for verdict in verdicts if verdict])
        _write_reports(found, options)
    worst = overall([verdict for verdict in verdicts if verdict])
    if len(verdicts) == 1 or worst != verdicts[-1]:
        console(f"Verdict of the command: {worst}")
    return EXIT[worst]


def _calls_verdict(captures: Captures, code: int, show: Console) -> str:
    """Say what the calls show before a file is judged; its verdict, empty where they show nothing against it."""
    found = list(captured.findings(captures, code))
    missing = captured.missing(captures)
    for finding in found:
        show(finding.message + ("" if finding.level == MUST else f" ({finding.level})"))
    for reason in missing:
        show(reason)
    if any(finding.level == MUST for finding in found):
        return "violates"
    return "incomplete" if missing else ""


def judge_files(captures: Captures, options: Mapping[str, Any], console: Console) -> Dict[str, Any]:
    """Judge every file as it lies now against the module of its call, and return the report."""
    calls = {path: call for path, call in by_file(captures).items() if captured.judged_here(Path(path))}
    references: Dict[int, Any] = {}

    def reference(path: Path) -> Any:
        call = calls[str(path)]
        if id(call) not in references:
            references[id(call)] = reference_of(call)
        return references[id(call)]

    layout = layout_of(options["layout"]) if options.get("layout") else None
    source = ForeignSource(reference, lambda path: promises_of(calls[str(path)]), layout)
    asked = Options(
        artifacts=tuple(map(Path, calls)),
        checks=options.get("checks"),
        strict=bool(options.get("strict")),
        quick=bool(options.get("quick")),
        pictures=PICTURES if options.get("html") else 0,
        images=_images(options),
    )
    session = Session(asked, None, foreign=source)
    recorder = Recorder(asked.strict)
    unusable: List[Dict[str, Any]] = []
    for number, path in enumerate(asked.artifacts, 1):
        console.files(number, len(asked.artifacts))
        console.stage(f"reading {path.name}")
        _judge(session, path, calls[str(path)], recorder, unusable, console)
    timings = {"engine_seconds": session.clock.engine, "total_seconds": console.seconds()}
    timings["truths_asked"], timings["truths_worked_out"] = session.asked
    found = report(about(session), [*recorder.entries.values(), *unusable], timings)
    for entry in unusable:
        console.verdict(entry)
    console.summary(found)
    return found


def _images(options: Mapping[str, Any]) -> Any:
    """The user's pictures, as `detparity check` takes them."""
    paths = {name: Path(options[name]) if options.get(name) else None for name in ("images", "labels")}
    more = {name: options.get(name) for name in ("max_images", "preprocess")}
    return images_of(argparse.Namespace(**paths, **more))


def _judge(
    session: Session,
    path: Path,
    call: CapturedCall,
    recorder: Recorder,
    unusable: List[Dict[str, Any]],
    console: Console,
) -> None:
    try:
        if call.module is None:
            raise InputError(f"{path} has no reference: {call.problem}")
        subject = session.subject(path)
    except InputError as error:
        unusable.append(unusable_entry(str(path), str(error)))
        return
    entry = judge(session, subject, recorder, console)
    if entry and entry["verdict"] == "violates" and _was_right(session, path, call):
        console(f"{path.name} was right as {call.exporter} wrote it: a later step of the command broke it.\n")


def _was_right(session: Session, path: Path, call: CapturedCall) -> bool:
    """Whether the file as the exporter wrote it is another one, and nothing is wrong with it."""
    if call.first is None or not call.first.is_file() or sha256(call.first) == sha256(path):
        return False
    assert session.foreign is not None
    earlier = ForeignSource(lambda _: reference_of(call), lambda _: promises_of(call), session.foreign.layout)
    asked = replace(session.options, artifacts=(call.first,), quick=True, checks=None, pictures=0, images=None)
    again = Session(asked, None, foreign=earlier)
    recorder = Recorder(strict=False)
    entry: Mapping[str, Any] = {}
    try:
        for judged in judge_all(again, [again.subject(call.first)]):
            entry = recorder.add(judged.record)
    except InputError:  # the exporter's own file cannot be used: no later step is to blame
        return False
    return bool(entry) and entry["verdict"] == "conforms"


def _write_reports(found: Dict[str, Any], options: Mapping[str, Any]) -> None:
    from detparity.cli.check import write_reports

    paths = {name: Path(options[name]) if options.get(name) else None for name in ("json", "html", "junit")}
    write_reports(found, argparse.Namespace(**paths))
