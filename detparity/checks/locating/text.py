"""What a search found, for a person."""

from __future__ import annotations

from typing import Any, Dict, List, Tuple

from detparity.checks.locating.causes import cause_of
from detparity.checks.locating.relations import Cause
from detparity.checks.locating.run import Answer
from detparity.checks.locating.search import Place
from detparity.core.findings import Finding, Row
from detparity.core.text import listed, number
from detparity.core.trace import Trace

SHOWN = 6


def findings(answer: Answer) -> List[Finding]:
    """One for each place, in the order of the file."""
    places = answer.located.places
    found = [_finding(answer, place, index, len(places)) for index, place in enumerate(places[:SHOWN], 1)]
    return found if found else _nothing(answer)


def where(place: Place, trace: Trace) -> str:
    """The module and the node of a place, as a clause."""
    return f"{_module(place, trace)}, at node {place.part.title!r}"


def _module(place: Place, trace: Trace) -> str:
    return trace.title(place.module)


def _finding(answer: Answer, place: Place, index: int, count: int) -> Finding:
    cause = cause_of(answer.search, place)
    message = f"stops being its model in {where(place, answer.trace)}, at {answer.case}."
    if count > 1:
        message = f"{message[:-1]} ({index} of {count} independent places)."
    ratio = place.error / place.noise if place.noise else float("inf")
    times = f"{number(ratio)} times what rounding does" if ratio < 1e9 else "where rounding does nothing"
    rows: List[Row] = [
        ("nodes", listed([f"{part.title} ({part.operator})" for part in place.parts], 4)),
        ("model", listed([_step(step.operator, step.module, answer.trace) for step in place.steps], 4)),
        ("error", f"{number(place.error)} rms of {number(place.scale)}, from the model's own numbers: {times}"),
    ]
    notes = [because(cause, place)] if cause is not None else []
    if count == 1 and place.proved and answer.located.ends:
        notes.append("Given the model's numbers at that one tensor, everything behind it is the model's.")
    elif not answer.located.ends:
        notes.append("Not every tensor behind it could be paired with the model's: there may be more.")
    evidence = record(place, answer)
    if cause is not None:
        evidence.update(cause=cause.sentence, kind_of_cause=cause.kind, left=cause.left, fix=cause.fix)
    return Finding(message, tuple(rows), notes=tuple(notes), evidence=evidence, fix=cause.fix if cause else None)


def because(cause: Cause, place: Place) -> str:
    """A cause with its evidence."""
    sentence = cause.sentence[0].upper() + cause.sentence[1:]
    return f"{sentence}. Tried: without that the error is {number(cause.left)} instead of {number(place.error)}, which is noise."


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


def record(place: Place, answer: Answer) -> Dict[str, Any]:
    """A place as data."""
    return {
        "case": answer.case,
        "module": answer.trace.names.get(place.module, place.module),
        "kind": answer.trace.kinds.get(place.module, ""),
        "node": place.part.title,
        "tensor": place.tensor,
        "nodes": [part.title for part in place.parts],
        "operators": [step.operator for step in place.steps],
        "error": place.error,
        "noise": place.noise,
    }


def summary(answer: Answer) -> Tuple[str, ...]:
    """How much was compared, in lines."""
    located = answer.located
    return (
        f"{located.same} of {located.of} tensors of the file are the model's; {answer.runs} inferences of the file",
    )
