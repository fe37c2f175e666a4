"""What `detparity check` does once its options are read: judge, one file open at a time, and report."""

from __future__ import annotations

import contextlib
import time
from pathlib import Path
from typing import Any, Callable, Dict, List, Mapping

from detparity import checks
from detparity.checks.foreign import registry
from detparity.checks.foreign.sources import source_of
from detparity.checks.run import about, heads_of, judge_all
from detparity.checks.session import Options, Session, Subject
from detparity.core.errors import InputError
from detparity.core.vocabulary import variant_names
from detparity.reports.recorder import Recorder
from detparity.reports.report import report, unusable_entry
from detparity.reports.terminal import artifact_text, verdict_line
from detparity.tools.export_cache import KitExports

Say = Callable[[str], None]


def check(asked: Options, scratch: Path, say: Say) -> Dict[str, Any]:
    """Judge every artifact, or what the own exporters make where none is given, and return the report.

    scratch: a folder for exports. Raises InputError where the model or an option cannot be used.
    """
    _require_promises_of_use(asked)
    foreign = source_of(asked.choice, asked.img_size) if asked.choice.foreign else None
    if asked.checks:
        checks.select(asked.checks, registry() if foreign else None)
    if asked.variant is not None and asked.variant not in variant_names():
        raise InputError(f"unknown variant {asked.variant!r}: known are {', '.join(variant_names())}")
    if asked.artifacts and asked.exporters:
        raise InputError("--exporter chooses among the kit's own exporters; it does not go with files")
    start = time.perf_counter()
    session = Session(asked, None if asked.artifacts else KitExports(scratch), foreign)
    session.load()
    session.exporters()
    recorder = Recorder(asked.strict)
    unusable: List[Dict[str, Any]] = []
    if asked.artifacts:
        unusable = _judge_files(session, recorder, say)
    else:
        subjects = session.subjects()
        session.require_known_failures_met(subjects)
        for subject in subjects:
            _judge(session, subject, recorder, say)
    timings = {
        "engine_seconds": session.clock.engine,
        "total_seconds": time.perf_counter() - start,
        "truths_asked": session.asked[0],
        "truths_worked_out": session.asked[1],
    }
    found = report(about(session), [*recorder.entries.values(), *unusable], timings)
    for entry in unusable:
        say(artifact_text(entry))
    say(verdict_line(found))
    return found


def _require_promises_of_use(asked: Options) -> None:
    """Raise InputError for promises that files of any detector do not make."""
    given = ["--variant"] * (asked.variant is not None) + asked.promised.arguments
    if asked.choice.foreign and given:
        raise InputError(
            f"{given[0]} is a promise of the home family's files; --model, --against and --capture have none"
        )


def _judge_files(session: Session, recorder: Recorder, say: Say) -> List[Dict[str, Any]]:
    """Judge the user's files, one open at a time; returns the entries of those that cannot be used."""
    files = list(dict.fromkeys(session.options.artifacts))
    unusable: List[Dict[str, Any]] = []
    if session.options.known_failures is not None:
        subjects = []
        for path in files:
            with contextlib.suppress(InputError):
                subjects.append(session.subject(path))
                session.release(subjects[-1])
        session.require_known_failures_met(subjects)
    for path in files:
        try:
            subject = session.subject(path)
        except InputError as error:
            unusable.append(unusable_entry(str(path), str(error)))
            continue
        if len(files) == 1:
            session.heads = heads_of(session, [subject])
        _judge(session, subject, recorder, say)
    return unusable


def _judge(session: Session, subject: Subject, recorder: Recorder, say: Say) -> None:
    entry: Mapping[str, Any] = {}
    for judged in judge_all(session, [subject]):
        entry = recorder.add(judged.record)
    if entry:
        say(artifact_text(entry, session.options.strict))
