"""Mutants before the checks: quick ones first, all of them for those that survive. The model is loaded once, and what it gives is
worked out once, for all of them."""

from __future__ import annotations

import time
from dataclasses import replace
from pathlib import Path
from typing import Any, Dict, Iterator, List, Optional, Sequence

from detparity.artifacts.onnx_file_mutations import Mutant
from detparity.artifacts.open import Asked
from detparity.checks.context import Context
from detparity.checks.foreign.context import ForeignContext
from detparity.checks.foreign.open_file import ForeignSource
from detparity.checks.foreign.sources import SELF, source_of
from detparity.checks.run import heads_of
from detparity.checks.session import AnyContext, Options, Session, Subject
from detparity.core.case import Judge, Space
from detparity.core.errors import InputError
from detparity.core.findings import Finding, Outcome, fails
from detparity.core.promises import Promises
from detparity.inputs.explore import explore
from detparity.tools.mutate.equivalent import Equivalence

KILLED, SURVIVED, UNDECIDED, EQUIVALENT, BROKEN = "killed", "survived", "undecided", "equivalent", "broken"
UNUSABLE = "unusable"  # what kills a file that cannot be read as an exported model
# Groups and kinds whose changes numbers show; of others, equal numbers on some pictures prove nothing.
BY_NUMBERS = (
    "weights",
    "operators",
    "attributes",
    "wiring",
    "types",
    "quantisation",
    "the worst chosen",
    "chosen by other numbers",
)
OF_THE_FILE = "the file that mutants are made of"
TEXT = 200  # letters of a message


class Bench:
    """Two sessions, quick and full, with one model between them; model: its digest. Raises InputError where the model or the file
    cannot be used.

    What the file itself promises, as it was read, holds for its mutants: its variant, its thresholds, its names, axes and opset.
    """

    def __init__(self, options: Options) -> None:
        self.path = options.artifacts[0]
        choice = options.choice
        if choice.against == SELF:  # a mutant is not its own truth
            choice = replace(choice, against=str(self.path))
        options = replace(options, choice=choice)
        source = source_of(choice, options.img_size) if choice.foreign else None
        first = Session(options, None, source)
        first.load()
        subject = first.subjects_of(self.path)[0]
        if subject.died is not None:
            raise InputError(f"{self.path}: {subject.died}")
        context = first.judged(self.path)
        about = context.oracle.reference.facts if isinstance(context, ForeignContext) else context.facts
        self.model = about.digest
        first.heads = heads_of(first, [subject])
        if isinstance(context, ForeignContext):
            assert first.foreign is not None
            first.foreign.promises = _promised(first.foreign, context)
        options = replace(options, img_size=context.contract.size)
        options = options if isinstance(context, ForeignContext) else _held(options, context)
        self.quick, self.full = (_session(first, replace(options, quick=quick)) for quick in (True, False))
        self.equivalence = Equivalence(self.full.judged(self.path))
        self.strict = options.strict

    def problem(self) -> str:
        """Why the file does not conform, empty where it does."""
        for session in (self.quick, self.full):
            subject = session.subject(self.path)
            for outcome in _outcomes(session, subject):
                if fails(outcome, self.strict):
                    finding = _decisive(outcome, self.strict)
                    return f"{outcome.check} {outcome.outcome}: {finding.message if finding else outcome.reason}"
                if outcome.incomplete:
                    return f"{outcome.check} could not be judged: {outcome.reason}"
        return ""

    def judged(self, mutant: Mutant, path: Path) -> Dict[str, Any]:
        """Write a mutant to a path, and what became of it."""
        start = time.monotonic()
        path.write_bytes(mutant.model.SerializeToString())
        found: Dict[str, Any] = {}
        for session in (self.quick, self.full):
            found = self._fate(session, path)
            if found["outcome"] not in (SURVIVED, UNDECIDED):
                found["quick"] = session.options.quick
                break
        if found["outcome"] in (SURVIVED, UNDECIDED) and {mutant.group, mutant.kind} & set(BY_NUMBERS):
            found.update(self.equivalence.of(path))
        facts = {"mutant": mutant.number, "group": mutant.group, "kind": mutant.kind, "where": mutant.where}
        return {**facts, "about": mutant.about, **found, "seconds": round(time.monotonic() - start, 2)}

    def _fate(self, session: Session, path: Path) -> Dict[str, Any]:
        undecided: List[str] = []
        noted: List[str] = []
        try:
            subject = session.subject(path)
        except InputError as error:
            return {"outcome": KILLED, "by": UNUSABLE, "message": _short(error, path)}
        if subject.died is not None:
            return {"outcome": KILLED, "by": subject.checks[0], "message": str(subject.died)[:TEXT]}
        try:
            for outcome in _outcomes(session, subject):
                if outcome.outcome == "error":
                    return {"outcome": BROKEN, "by": outcome.check, "message": str(outcome.reason)[:TEXT]}
                if fails(outcome, self.strict):
                    finding = _decisive(outcome, self.strict)
                    return {
                        "outcome": KILLED,
                        "by": outcome.check,
                        "message": finding.message[:TEXT] if finding else "",
                    }
                undecided += [f"{outcome.check}: {outcome.reason}"[:TEXT]] if outcome.incomplete else []
                noted += [f"{outcome.check}: {one.message}"[:TEXT] for one in outcome.findings if one.level != "INFO"]
        finally:
            session.release(subject)
        if undecided:  # the verdict is incomplete, as that of the good file was not
            return {"outcome": UNDECIDED, "noted": undecided}
        return {"outcome": SURVIVED, **({"noted": noted} if noted else {})}


def _session(first: Session, options: Options) -> Session:
    """A session with the model of another one."""
    made = Session(options, None, first.foreign, first.heads, clock=first.clock, _oracles=first._oracles)
    if first.foreign is None:
        made.detector, made.oracle = first.detector, first.oracle
    return made


def _held(options: Options, context: Context) -> Options:
    """The options that promise what was read of a file."""
    contract = context.contract
    nms, precision = contract.nms, options.promised.precision
    promised = Asked(opset=contract.opsets.get(""), precision=precision)
    if nms is not None:
        promised = replace(
            promised,
            iou_thres=nms.iou_threshold,
            conf_thres=nms.score_threshold,
            topk_all=nms.cap,
            max_wh=nms.max_wh,
        )
    return replace(options, variant=contract.variant.name, promised=promised)


def _promised(source: ForeignSource, context: ForeignContext) -> Any:
    """Promises by file: those of its exporter, else what the first file has."""
    if context.artifact.kind != "onnx" or source.promises(context.artifact.path).source:
        return source.promises
    graph = context.onnx.graph
    own = [value for value in graph.inputs if value.name not in graph.initializers]
    outputs = tuple(value.name for value in graph.outputs)
    axes = {
        value.name: {axis: str(dim) for axis, dim in enumerate(value.shape or ()) if not isinstance(dim, int)}
        for value in (*own, *graph.outputs)
    }
    inputs = tuple(value.name for value in own)
    asked = Promises(OF_THE_FILE, inputs, outputs, axes, context.onnx.opsets.get(""), written=len(outputs))
    return lambda path: asked


def _outcomes(session: Session, subject: Subject) -> Iterator[Outcome]:
    """The outcomes of a file's checks, one after the other. The smallest case that shows a defect is not searched for."""
    assert subject.path is not None
    context: AnyContext = session.judged(subject.path)
    if isinstance(context, Context):
        context = replace(context, explore=first_only if session.options.quick else until_found)
    for check in session.checks_of(subject):
        yield context.outcome(check)


def first_only(space: Space, judge: Judge) -> Sequence[Finding]:
    """The first case that a space names."""
    return judge(space.always[0]) if space.always else ()


def until_found(space: Space, judge: Judge) -> Sequence[Finding]:
    """All of them in order, until one fails, and then drawn ones."""
    found = next(filter(None, (judge(case) for case in space.always)), ())
    return found or explore(replace(space, always=()), judge)


def _decisive(outcome: Outcome, strict: bool) -> Optional[Finding]:
    levels = {"MUST", "SHOULD"} if strict else {"MUST"}
    return next((one for one in outcome.findings if one.level in levels), None)


def _short(error: InputError, path: Path) -> str:
    return str(error).replace(str(path), path.name)[:TEXT]
