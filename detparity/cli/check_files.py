"""What `detparity check` does once its options are read: judge, one file open at a time, and report."""

from __future__ import annotations

import contextlib
from dataclasses import replace
from pathlib import Path
from typing import Any, Dict, List, Mapping

from detparity import checks
from detparity.checks.foreign import registry
from detparity.checks.foreign.sources import source_of
from detparity.checks.run import about, heads_of, judge_all
from detparity.checks.session import Options, Session, Subject
from detparity.cli.console import Console
from detparity.cli.options import complain
from detparity.core import allocator
from detparity.core.errors import EngineError, InputError
from detparity.core.runtimes import runtime_files
from detparity.core.vocabulary import variant_names
from detparity.reports.recorder import Recorder
from detparity.reports.report import report, unusable_entry
from detparity.tools.export_cache import KitExports


def check(asked: Options, scratch: Path, console: Console, as_command: bool = False) -> Dict[str, Any]:
    """Judge every artifact, or what the own exporters make where none is given, and return the report.

    scratch: a folder for exports; as_command: whether this process is ours alone. Raises InputError where the model or an option
    cannot be used.
    """
    _require_promises_of_use(asked)
    foreign = source_of(asked.choice, asked.img_size) if asked.choice.foreign else None
    if asked.checks:
        checks.select(asked.checks, registry() if foreign else None)
    if asked.variant is not None and asked.variant not in variant_names():
        raise InputError(f"unknown variant {asked.variant!r}: known are {', '.join(variant_names())}")
    if asked.artifacts and asked.exporters:
        raise InputError("--exporter chooses among the kit's own exporters; it does not go with files")
    console.stage("loading the model")
    session = Session(asked, None if asked.artifacts else KitExports(scratch), foreign, progress=console.picture)
    session.load()
    session.exporters()
    recorder = Recorder(asked.strict)
    unusable: List[Dict[str, Any]] = []
    if asked.artifacts:
        unusable = _judge_files(session, recorder, console, as_command)
    else:
        subjects = session.subjects()
        session.require_known_failures_met(subjects)
        if as_command:
            allocator.reuse_freed_memory()
        for number, subject in enumerate(subjects, 1):
            console.files(number, len(subjects))
            judge(session, subject, recorder, console)
    timings = {
        "engine_seconds": session.clock.engine,
        "total_seconds": console.seconds(),
        "truths_asked": session.asked[0],
        "truths_worked_out": session.asked[1],
    }
    found = report(about(session), [*recorder.entries.values(), *unusable], timings)
    for entry in unusable:
        console.verdict(entry)
    console.summary(found)
    for note in session.notes:
        complain(note)
    return found


def _require_promises_of_use(asked: Options) -> None:
    """Raise InputError for promises that files of any detector do not make."""
    given = ["--variant"] * (asked.variant is not None) + replace(asked.promised, precision=None).arguments
    if asked.choice.foreign and given:
        raise InputError(
            f"{given[0]} is a promise of the home family's files; --model, --against and --capture have none"
        )


def _judge_files(session: Session, recorder: Recorder, console: Console, as_command: bool) -> List[Dict[str, Any]]:
    """Judge the user's files, one open at a time; returns the entries of those that cannot be used."""
    files = list(dict.fromkeys(session.options.artifacts))
    unusable: List[Dict[str, Any]] = []
    if session.options.known_failures is not None:
        subjects = []
        for path in files:
            with contextlib.suppress(InputError):
                subjects += session.subjects_of(path)
                for subject in subjects:
                    session.release(subject)
        session.require_known_failures_met(subjects)
    for number, path in enumerate(files, 1):
        console.files(number, len(files))
        console.stage(f"reading {path.name}")
        try:
            subjects = session.subjects_of(path)
        except InputError as error:
            unusable.append(unusable_entry(str(path), str(error)))
            continue
        if len(files) == 1:
            session.heads = heads_of(session, subjects)
        home = session.foreign is None and runtime_files(path) is None
        if as_command and home and all(one.died is None for one in subjects):
            allocator.reuse_freed_memory()
            allocator.return_freed_memory()
        for subject in subjects:
            entry = judge(session, subject, recorder, console)
            if entry and asks_for_graph(session.options, subject):
                console.stage("comparing the graphs", subject.title)
                recorder.entries[entry["path"]].update(_graph(Path(str(session.choice.against)), path))
    return unusable


def asks_for_graph(options: Options, subject: Subject) -> bool:
    """Whether the page of a report has the differences from the file that this one is judged against."""
    return (
        options.pictures > 0
        and options.choice.against not in (None, "self")
        and subject.died is None
        and not subject.on
    )


def _graph(other: Path, path: Path) -> Dict[str, Any]:
    """The entry `graph` of a report, where both files are ONNX files that can be read."""
    from detparity.tools.diff.report import graph_record

    try:
        return {"graph": graph_record(other, path)}
    except (InputError, EngineError):
        return {}


def judge(session: Session, subject: Subject, recorder: Recorder, console: Console) -> Mapping[str, Any]:
    """Judge one file and show its verdict; its entry of the report, empty where no check was chosen."""
    entry: Mapping[str, Any] = {}
    with console.checks(subject.title, session.checks_of(subject)) as step:
        for judged in judge_all(session, [subject]):
            entry = recorder.add(judged.record)
            step(judged.outcome)
    if entry:
        console.verdict(entry, session.options.strict)
    return entry
