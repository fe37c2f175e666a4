"""The files that a captured command left, each judged against the module of its call."""

from __future__ import annotations

import argparse
import contextlib
import itertools
from dataclasses import replace
from pathlib import Path
from typing import Any, Dict, List, Mapping, Optional, Tuple

from detparity.artifacts.open import Asked
from detparity.checks import captured
from detparity.checks.foreign.context import ForeignContext, OutputsDiffer
from detparity.checks.foreign.layout_file import layout_of
from detparity.checks.foreign.open_file import ForeignSource
from detparity.checks.foreign.parity import cases
from detparity.checks.foreign.truth import Refuses
from detparity.checks.run import Options, Session, about, judge_all
from detparity.cli.check_files import judge
from detparity.cli.console import Console
from detparity.cli.options import PICTURES, images_of
from detparity.core.budget import budget_of
from detparity.core.case import Case
from detparity.core.decisions import Choice
from detparity.core.errors import EngineDied, EngineError, InputError
from detparity.core.files import sha256
from detparity.core.findings import CannotRun
from detparity.models.capture import CapturedCall, Captures
from detparity.models.capture_store import folder_of
from detparity.models.capture_versions import Version
from detparity.models.captured_reference import by_file, promises_of, reference_of
from detparity.models.choice import ModelChoice
from detparity.models.reference import EXACT
from detparity.models.stored_reference import RecordedReference
from detparity.reports.recorder import Recorder
from detparity.reports.report import report, unusable_entry


def judge_files(captures: Captures, options: Mapping[str, Any], console: Console) -> Dict[str, Any]:
    """Judge every file as it lies now against the module of its call, and return the report."""
    calls = {path: call for path, call in by_file(captures).items() if captured.judged_here(Path(path))}
    references: Dict[int, Any] = {}
    keep = Path(options["keep"]) if options.get("keep") else None

    def reference(path: Path) -> Any:
        call = calls[str(path)]
        if id(call) not in references:
            references[id(call)] = _reference(captures, call, keep)
        return references[id(call)]

    layout = layout_of(options["layout"]) if options.get("layout") else None
    source = ForeignSource(reference, lambda path: promises_of(calls[str(path)]), layout)
    asked = Options(
        choice=ModelChoice(capture=keep),
        captured=tuple(options.get("command", ())),
        artifacts=tuple(map(Path, calls)),
        checks=options.get("checks"),
        strict=bool(options.get("strict")),
        quick=bool(options.get("quick")),
        pictures=PICTURES if options.get("html") else 0,
        images=_images(options),
        promised=Asked(precision=options.get("precision")),
        budget=budget_of(options.get("budget") or ""),
    )
    session = Session(asked, None, foreign=source, progress=console.picture)
    recorder = Recorder(asked.strict)
    unusable: List[Dict[str, Any]] = []
    for number, path in enumerate(asked.artifacts, 1):
        console.files(number, len(asked.artifacts))
        console.stage(f"reading {path.name}")
        _judge(session, path, calls[str(path)], recorder, unusable, console)
        if keep is not None:
            _run_all(session, path)
    for recorded in references.values() if keep is not None else ():
        recorded.save()
    timings = {"engine_seconds": session.clock.engine, "total_seconds": console.seconds()}
    timings["truths_asked"], timings["truths_worked_out"] = session.asked
    found = report(about(session), [*recorder.entries.values(), *unusable], timings)
    for entry in unusable:
        console.verdict(entry)
    console.summary(found)
    return found


def _reference(captures: Captures, call: CapturedCall, keep: Optional[Path]) -> Any:
    """The module of a call; what it gives is stored where captures are."""
    found = reference_of(call)
    if keep is None:
        return found
    number = next(k for k, one in enumerate(captures) if one is call)
    return RecordedReference(found, folder_of(keep, number))


def _run_all(session: Session, path: Path) -> None:
    """Run the model on all that a file may be asked, so that another version of the file can be judged without the model."""
    try:
        context = session.judged(path)
    except (InputError, EngineDied):
        return
    assert isinstance(context, ForeignContext)
    reference = context.oracle.reference
    for case, how in itertools.product(cases(context), (EXACT, *reference.facts.ways)):
        with contextlib.suppress(Refuses, CannotRun, EngineError, EngineDied, OutputsDiffer):
            context.oracle.run_forced(how, context.given(case), _choices(context, case))


def _choices(context: ForeignContext, case: Case) -> Tuple[Choice, ...]:
    """What the file chooses of a case; nothing where it does not run, or cannot be compared."""
    try:
        return context.choices(case)
    except (EngineError, EngineDied, OutputsDiffer, CannotRun):
        return ()


def _images(options: Mapping[str, Any]) -> Any:
    """The user's pictures, as `detparity check` takes them."""
    paths = {name: Path(options[name]) if options.get(name) else None for name in ("images", "labels", "resume")}
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
    if entry and entry["verdict"] == "violates":
        right = _still_right(session, path, call)
        if right:
            recorder.entries[str(path)]["still_right"] = right
            console(f"{path.name} was right as {right}.\n")


def _still_right(session: Session, path: Path, call: CapturedCall) -> str:
    """Up to where the file was right, as a clause; empty where no earlier version of it was. Versions are tried from the last one."""
    if call.first is None or not call.first.is_file() or sha256(call.first) == sha256(path):
        return ""
    versions = [Version(call.first, f"{call.exporter} wrote it"), *call.versions]
    for number in reversed(range(len(versions))):
        if sha256(versions[number].path) != sha256(path) and _conforms(session, versions[number].path, path):
            later = versions[number + 1 :]
            after = f", and no longer as {later[0].how}" if later else ": a later step of the command broke it"
            return versions[number].how + after
    return ""


def _conforms(session: Session, version: Path, path: Path) -> bool:
    """Whether nothing is wrong with an earlier version of a file."""
    assert session.foreign is not None
    now = session.foreign
    earlier = ForeignSource(
        lambda _: now.reference(path), lambda _: now.promises(path), now.layout, oracles=now.oracles
    )
    options = replace(session.options, artifacts=(version,), quick=True, checks=None, pictures=0, images=None)
    again = Session(options, None, foreign=earlier)
    recorder = Recorder(strict=False)
    entry: Mapping[str, Any] = {}
    try:
        for judged in judge_all(again, [again.subject(version)]):
            entry = recorder.add(judged.record)
    except InputError:  # that version cannot be used at all
        return False
    return bool(entry) and entry["verdict"] == "conforms"
