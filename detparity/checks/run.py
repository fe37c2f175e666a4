"""The one runner: opens files, runs checks on them, and records what each found.

`detparity check`, `detparity.verify` and pytest all judge by `judge`, one check on one subject, so that they cannot disagree.
"""

from __future__ import annotations

import json
import shlex
from dataclasses import dataclass, replace
from typing import Any, Dict, Iterator, List, Mapping, Optional, Sequence, Tuple

from detparity import checks
from detparity.artifacts.open import DEFAULT_STRIDES
from detparity.checks import export, power
from detparity.checks.context import Context, to_blame, truth_head
from detparity.checks.engine import DEFAULT
from detparity.checks.foreign.context import ForeignContext
from detparity.checks.foreign.measured import measured as foreign_measured
from detparity.checks.foreign.open_file import precision_record, record
from detparity.checks.inputs import reported_case, slots_note
from detparity.checks.judging import undecided
from detparity.checks.known_failures import settle
from detparity.checks.latency import latency
from detparity.checks.locating.note import with_fault
from detparity.checks.nms import DETECTIONS
from detparity.checks.session import (
    AnyContext,
    Options,
    Session,
    Subject,
)
from detparity.checks.showing import shown_of
from detparity.checks.weights import coverage
from detparity.core import environment
from detparity.core.contract import MUST
from detparity.core.errors import EngineDied, EngineError, NotMade
from detparity.core.exported_files import share_record
from detparity.core.findings import BLOCKED, MADE, Outcome, of_the_end
from detparity.core.precision import HALVES
from detparity.core.runtimes import digest, runtime_files
from detparity.core.text import render
from detparity.core.verdict import outcome_record
from detparity.engines.remote import client
from detparity.inputs import images
from detparity.oracle.noise_floor import count_of, limit, measure, split_levels

ISLAND_STRIDES = 5  # sides of the picture on which parts in float32 are tried


@dataclass(frozen=True)
class Judged:
    """One check on one subject: its outcome after known failures, the text of each finding, and the record for the report."""

    outcome: Outcome
    texts: Tuple[str, ...]
    record: Mapping[str, Any]


def judge(session: Session, subject: Subject, check_id: str) -> Judged:
    """Run one check on one subject. Every runner passes here."""
    measured: Optional[Dict[str, Any]] = None
    if subject.died is not None or subject.missing:
        return _unread(session, subject)
    if subject.path is not None:
        context: Optional[AnyContext] = session.judged(subject.path, on=subject.on)
    else:
        assert subject.name is not None
        try:
            path, problem = session.made(subject.name), None
        except NotMade as error:
            path, problem = None, error
        context = None if check_id == MADE or path is None else session.judged(path, subject.name)
        if check_id == MADE:
            outcome = export.outcome(problem)
        elif problem is not None:
            outcome = export.blocked(checks.registry()[check_id], problem)
    if context is not None:
        outcome, artifact = context.outcome(check_id), {**_artifact(context), **_extent(session, subject)}
    else:
        assert session.own is not None
        artifact = {"path": subject.title, "variant": session.own.promised(subject.title)}
        if outcome.outcome != "passed":
            artifact["how"] = f"{subject.title}, not made"
    outcome = settle(outcome, session.known_failures.of(subject.title, check_id))
    if session.options.locate and context is not None:
        outcome = with_fault(session, context, outcome)
    if context is not None and check_id == "parity.declared" and outcome.outcome == "passed":
        measured = _measured(session, context)
    if check_id == DETECTIONS and outcome.outcome == "passed" and isinstance(context, Context):
        measured = None if context.on or context.quick else _power(session, context)
    if context is not None and check_id == "precision.budget" and "budget" in context.notes:
        budget = context.notes["budget"]
        measured = {"budget": budget, **power.of_budget(context, budget)}
    repeat = repeat_command(session.options, artifact["path"], check_id, subject.on)
    texts = tuple(render(subject.title, check_id, finding, repeat) for finding in outcome.findings)
    record: Dict[str, Any] = {"artifact": artifact, "check": outcome_record(outcome, texts, repeat)}
    if measured is not None:
        record["measured"] = measured
    # Through JSON, so that a worker can send it: xdist takes plain types alone, and torch's version is no plain text.
    return Judged(outcome, texts, json.loads(json.dumps(record)))


def _unread(session: Session, subject: Subject) -> Judged:
    """The record of a file whose reading ended its process, or whose engine is not there."""
    path, died, loads = subject.path, subject.died, subject.checks[0]
    assert path is not None
    if died is None:
        outcome = Outcome(loads, MUST, "skipped", reason=f"not judged: {subject.missing}", incomplete=True)
    elif _at_fault(session, died):
        outcome = Outcome(loads, MUST, "failed", (of_the_end(died),))
    else:
        outcome = Outcome(loads, MUST, "skipped", reason=undecided(died), incomplete=True)
    repeat = repeat_command(session.options, str(path), loads, subject.on)
    texts = tuple(render(subject.title, loads, finding, repeat) for finding in outcome.findings)
    how = f"not read: it {died}" if died is not None else f"not judged: {subject.missing}"
    artifact = {"path": str(path), "sha256": digest(path), "how": how, **_asked_engine(subject)}
    return Judged(outcome, texts, {"artifact": artifact, "check": outcome_record(outcome, texts, repeat)})


def _at_fault(session: Session, died: EngineDied) -> bool:
    """Whether a file whose reading ended its process is at fault. What it takes is not known, so a usual size decides; of another
    model's reference not even that."""
    if session.foreign is not None:
        return died.how == "crash"
    side = DEFAULT_STRIDES * session.detector.facts.max_stride
    return to_blame(died, session.oracle, (side, side))


def judge_all(session: Session, subjects: Sequence[Subject]) -> Iterator[Judged]:
    """Every chosen check on every subject, and what blocks one of them, subject by subject; each is let go of after its last."""
    for subject in subjects:
        chosen = session.checks_of(subject)
        for check_id in chosen:
            judged = judge(session, subject, check_id)
            blocking = (judged.outcome.reason or "").partition(BLOCKED)[2]
            if blocking and blocking not in chosen:
                chosen.append(blocking)
            if check_id == chosen[-1]:
                judged = _with_latency(session, subject, _with_pictures(session, subject, judged))
            yield judged
        session.release(subject)


def _with_latency(session: Session, subject: Subject, judged: Judged) -> Judged:
    """The last record of a file with the time it takes, where a run compares engines."""
    if not session.compares_engines or subject.path is None or subject.died is not None or subject.missing:
        return judged
    context = session.judged(subject.path, subject.name, subject.on)
    if context.died is not None:
        return judged
    found, session.timed = latency(context, subject.title, session.timed)
    ran = {"latency": found, "engine": engine_facts(context)} if found else {}
    measured = {**ran, **judged.record.get("measured", {})}
    return replace(judged, record={**judged.record, "measured": measured})


def _with_pictures(session: Session, subject: Subject, judged: Judged) -> Judged:
    """The last record of a file, with what its report shows of images, where the run asks for that and the file can be run."""
    options = session.options
    unread = subject.died is not None or bool(subject.missing)
    if not (options.pictures or options.images) or unread or judged.outcome.check == MADE:
        return judged
    path = subject.path or session.made(str(subject.name))
    context = session.judged(path, subject.name, subject.on)
    if context.died is not None:
        return judged
    measured = {**judged.record.get("measured", {}), **shown_of(session, context)}
    return replace(judged, record={**judged.record, "measured": measured})


def heads_of(session: Session, subjects: Sequence[Subject]) -> Tuple[str, ...]:
    """The heads that these files need of the reference."""
    if session.foreign is not None:
        return session.heads
    read = [one for one in subjects if one.path is not None and one.died is None and not one.missing]
    found = [session.open(one.path) for one in read if one.path is not None and runtime_files(one.path) is None]
    return tuple({truth_head(one.contract.variant) for one in found}) or session.heads


def _extent(session: Session, subject: Subject) -> Dict[str, Any]:
    """How many checks apply and, of a user's file, against which model they are."""
    found: Dict[str, Any] = {"applying": len(subject.checks), **_asked_engine(subject)}
    if session.foreign is None and subject.path is not None:
        found["against"] = session.choice.title if session.choice.named else session.detector.facts.name
    return found


def _asked_engine(subject: Subject) -> Dict[str, str]:
    return {"on": subject.on} if subject.on else {}


def _artifact(context: AnyContext) -> Dict[str, Any]:
    if isinstance(context, ForeignContext):
        return record(context)
    found: Dict[str, Any] = {
        "path": str(context.artifact.path) if context.artifact.name is None else context.artifact.name,
        "sha256": context.artifact.sha256,
        "variant": context.contract.variant.name,
        "how": context.how + slots_note(context.contract),
    }
    found["precision"] = precision_record(context)
    if context.artifact.kind == "onnx":
        opset, producer = context.onnx.opsets.get("", 0), context.onnx.producer
        found["file"] = {"opset": opset, "ir_version": context.onnx.ir_version, "producer": producer}
    return found


def _measured(session: Session, context: AnyContext) -> Optional[Dict[str, Any]]:
    if isinstance(context, ForeignContext):
        few = 0 if context.quick or context.on else power.FEW
        return {**foreign_measured(context), **power.of_foreign(context, few), "engine": engine_facts(context)}
    if context.on or (context.quick and (session.compares_engines or context.contract.precision in HALVES)):
        return {"noise": noise_of(context), "engine": engine_facts(context)}
    if context.quick:
        return None
    compared, left = coverage(context)
    weights = {"compared": compared, "not_comparable": left}
    return {
        "noise": noise_of(context),
        **_power(session, context),
        "weights": weights,
        "engine": engine_facts(context),
        **_islands(session, context),
    }


def _power(session: Session, context: Context) -> Dict[str, Any]:
    """What the verdict would have seen, and what not."""
    with context.clock.running():
        return power.of_home(context, session.detector)


def _islands(session: Session, context: Context) -> Dict[str, Any]:
    """Which parts of the network would gain by float32, of a file of half precision, on a small scene."""
    contract = context.contract
    if contract.precision not in HALVES:
        return {}
    from detparity.engines.half import islands

    side = ISLAND_STRIDES * context.facts.max_stride
    size = (min(contract.size[0], side), min(contract.size[1], side))
    with context.clock.running():
        found = islands(session.detector, contract.precision, images.make("scene", size, 0))
    return {"islands": [{"left": one.left, "errors": dict(one.errors)} for one in found]}


def engine_facts(context: AnyContext) -> Dict[str, str]:
    """What ran, and of an engine that was set to compute in float32 what it does by default."""
    found = {"name": context.engine(), "precision": stored_precision(context), **context.runner().facts}
    if context.elsewhere:
        try:
            found["by default"] = context.runner(precision=DEFAULT).facts.get("precision", "")
        except (EngineError, EngineDied):  # engine.default says so
            found["by default"] = ""
    return found


def stored_precision(context: AnyContext) -> str:
    """What an ONNX file computes in on an engine that follows it; of other files float32."""
    return context.precision.name if context.artifact.kind == "onnx" else "float32"


def repeat_command(options: Options, artifact: str, check_id: str, on: str = "") -> str:
    """The command that runs this one check on this one artifact again; empty where none does."""
    if options.captured is not None and options.choice.capture is None:
        words = ["detparity", "capture", "--checks", check_id, *_judging(options, check_id), "--", *options.captured]
        return " ".join(map(shlex.quote, words)) if options.captured else ""
    subject = [artifact] if options.artifacts else ["--exporter", artifact]
    arguments = ["detparity", "check", *subject, *options.choice.arguments, "--checks", check_id]
    arguments += ["--engine", on] if on else []
    arguments += ["--for", options.target] if options.target else []
    if options.variant:
        arguments += ["--variant", options.variant]
    if options.img_size:
        arguments += ["--img-size", *map(str, options.img_size)]
    if options.endpoint:
        arguments += ["--engine", str(options.endpoint)]
    return " ".join(map(shlex.quote, [*arguments, *_judging(options, check_id)]))


def _judging(options: Options, check_id: str) -> List[str]:
    """The options by which a check judges: the user's pictures, the budget and what was promised."""
    found: List[str] = []
    if options.images and check_id in (*checks.ON_IMAGES, "precision.budget", "precision.calibration"):
        found += options.images.arguments
    if options.budget.asked and check_id == "precision.budget":
        found += ["--budget", options.budget.text]
    return found + options.promised.arguments


def model_record(session: Session) -> Dict[str, Any]:
    """What the model is, for the report."""
    if session.foreign is not None:
        return session.foreign.subject()
    model = session.detector.facts
    return {
        "name": model.name,
        "digest": model.digest,
        "classes": model.classes,
        "strides": list(model.strides),
        "weights": session.choice.title if session.choice.weights else None,
        **({"note": session.detector.note} if session.detector.note else {}),
    }


def about(session: Session) -> Dict[str, Any]:
    """What a report states of its run: options, environment, model, and how the files were isolated from this process."""
    return {
        "strict": session.options.strict,
        "quick": session.options.quick,
        **share_record(session.options.share),
        "environment": environment.environment(),
        "isolation": client().confinement,
        "limits": limits(),
        "subject": model_record(session),
        **_photos(session),
    }


def _photos(session: Session) -> Dict[str, Any]:
    """The user's own pictures, where there are any, and those that could not be used."""
    if session.options.images is None:
        return {}
    found, problems = session.photos
    used = [{"name": one.name, "sha256": one.sha256, "height": one.size[0], "width": one.size[1]} for one in found]
    return {"photos": {"folder": str(session.options.images.folder), "used": used, "left_out": problems}}


def limits() -> Dict[str, int]:
    """The newest IR version and default-domain opset: `onnx_*` what the onnx package stamps by default, `ort_*` what its
    ONNX Runtime loads."""
    from detparity.artifacts import onnx_edit

    return {**onnx_edit.newest(), **client().newest()}


def noise_of(context: Context) -> Mapping[str, Mapping[str, float]]:
    """Floor and error per unit group on the reported case, the worst level of each, in its unit and in floors."""
    case = reported_case(context)
    truth = context.reported(case.pictures[0], case.size)
    found = measure(truth.levels, split_levels(truth.head, context.facts, case.size, context.predict(case), 0))
    table: Dict[str, Dict[str, float]] = {}
    for (level, group), stats in found.items():
        floor = truth.floor[level, group]
        row = {
            "stride": float(context.facts.strides[level]),
            "floor": floor.rms,
            "error": stats.rms,
            "floors": stats.rms / floor.rms,
            "floors_max": stats.max / floor.max,
            "limit": limit("rms", count_of(truth, (level, group))),
        }
        if row["floors"] >= table.get(group, {}).get("floors", -1.0):
            table[group] = row
    return table
