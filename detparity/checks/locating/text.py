"""What a search found, for a person."""

from __future__ import annotations

from typing import Any, Dict, List, Tuple

from detparity.checks.locating.causes import cause_of
from detparity.checks.locating.relations import Cause
from detparity.checks.locating.run import Answer
from detparity.checks.locating.search import Fault
from detparity.core.findings import Finding, Row
from detparity.core.text import listed, number
from detparity.core.trace import Trace

SHOWN = 6


def findings(answer: Answer) -> List[Finding]:
    """One for each fault, in the order of the file."""
    faults = answer.located.faults
    found = [_finding(answer, fault, index, len(faults)) for index, fault in enumerate(faults[:SHOWN], 1)]
    return found if found else _nothing(answer)


def where(fault: Fault, trace: Trace) -> str:
    """The module and the node of a fault, as a clause."""
    return f"{_module(fault, trace)}, at node {fault.part.title!r}"


def _module(fault: Fault, trace: Trace) -> str:
    return trace.title(fault.module)


def _finding(answer: Answer, fault: Fault, index: int, count: int) -> Finding:
    cause = cause_of(answer.search, fault)
    message = f"stops being its model in {where(fault, answer.trace)}, at {answer.case}."
    if count > 1:
        message = f"{message[:-1]} ({index} of {count} independent faults)."
    ratio = fault.error / fault.noise if fault.noise else float("inf")
    times = f"{number(ratio)} times what rounding does" if ratio < 1e9 else "where rounding does nothing"
    rows: List[Row] = [
        ("nodes", listed([f"{part.title} ({part.operator})" for part in fault.parts], 4)),
        ("model", listed([_step(step.operator, step.module, answer.trace) for step in fault.steps], 4)),
        ("error", f"{number(fault.error)} rms of {number(fault.scale)}, from the model's own numbers: {times}"),
    ]
    notes = [because(cause, fault)] if cause is not None else []
    if count == 1 and fault.proved and answer.located.ends:
        notes.append("Given the model's numbers at that one tensor, everything behind it is the model's.")
    elif not answer.located.ends:
        notes.append("Not every tensor behind it could be paired with the model's: there may be more.")
    evidence = record(fault, answer)
    if cause is not None:
        evidence.update(cause=cause.sentence, kind_of_cause=cause.kind, left=cause.left, fix=cause.fix)
    return Finding(message, tuple(rows), notes=tuple(notes), evidence=evidence, fix=cause.fix if cause else None)


def because(cause: Cause, fault: Fault) -> str:
    """A cause with its evidence."""
    sentence = cause.sentence[0].upper() + cause.sentence[1:]
    return f"{sentence}. Tried: without that the error is {number(cause.left)} instead of {number(fault.error)}, which is noise."


def _step(operator: str, module: str, trace: Trace) -> str:
    path = trace.names.get(module, module)
    return f"{operator} in {path}" if path else operator


def _nothing(answer: Answer) -> List[Finding]:
    located = answer.located
    if located.ends:
        return []
    rows = (("same", f"{located.same} of {located.of} tensors of the file are the model's"),)
    message = f"differs from its model at {answer.case}, and no tensor could be found where it begins to."
    return [Finding(message, rows, evidence={"case": answer.case})]


def record(fault: Fault, answer: Answer) -> Dict[str, Any]:
    """A fault as data."""
    return {
        "case": answer.case,
        "module": answer.trace.names.get(fault.module, fault.module),
        "kind": answer.trace.kinds.get(fault.module, ""),
        "node": fault.part.title,
        "tensor": fault.tensor,
        "nodes": [part.title for part in fault.parts],
        "operators": [step.operator for step in fault.steps],
        "error": fault.error,
        "noise": fault.noise,
    }


def summary(answer: Answer) -> Tuple[str, ...]:
    """How much was compared, in lines."""
    located = answer.located
    return (
        f"{located.same} of {located.of} tensors of the file are the model's; {answer.runs} inferences of the file",
    )
