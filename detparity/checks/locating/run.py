"""From a file under test and a case to where it goes wrong."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Dict, Iterator, Tuple, Union

import numpy as np

from detparity.artifacts import onnx_graph
from detparity.artifacts.input_form import InputForm, input_form
from detparity.checks.context import Context
from detparity.checks.locating.program import OnnxProgram
from detparity.checks.locating.script_program import ScriptProgram
from detparity.checks.locating.search import Located, Search
from detparity.checks.session import AnyContext, Session
from detparity.core import environment
from detparity.core.case import Case
from detparity.core.errors import EngineError
from detparity.core.findings import CannotRun
from detparity.core.trace import Step, Trace
from detparity.engines.graph_reference import GraphReference
from detparity.engines.remote import client
from detparity.models.reference import CannotRunReference

MEMORY_SHARE = 0.6  # of the machine's memory, that following a model may take
VALUES = (
    3  # of each value: of two runs, and of what the file is given (1.49 GB for yolov7-tiny at 640x640, 0.62 GB a run)
)
CHECKS = ("parity.declared", "parity.values", "parity.images", "parity.sizes", "parity.batches")


@dataclass(frozen=True)
class Answer:
    """Where a file goes wrong on a case; runs: inferences of the file; search: with the numbers of file and model."""

    case: Case
    trace: Trace
    located: Located
    runs: int
    search: Search


def failing(context: AnyContext) -> Iterator[Tuple[str, Case]]:
    """Cases on which the file's numbers are out of bounds, by the check that found them."""
    for check in CHECKS:
        if check in context.checks and context.checks[check].applies(context.contract):
            for finding in context.outcome(check).findings:
                case = finding.evidence.get("case")
                if isinstance(case, Case) and finding.level == "MUST":
                    yield check, case


def declared(context: AnyContext) -> Case:
    """The case of a file that nothing is known to be wrong of."""
    contract = context.contract
    return Case(contract.size, tuple(("natural", slot) for slot in range(contract.batch)))


def locate(session: Session, context: AnyContext, case: Case) -> Answer:
    """Raises CannotRun where the model or the file cannot be followed."""
    _require_torch()
    images = context.batch(case) if isinstance(context, Context) else context.given(case)
    try:
        program = _program(context, case)
        trace = _trace(session, context, images)
        search = Search(trace, program)
        located = search.located()
        return Answer(case, trace, located, program.runs, search)
    except CannotRunReference as error:
        raise CannotRun(f"the model cannot be followed operator by operator: {error}") from None
    except EngineError as error:
        raise CannotRun(f"the file cannot be followed tensor by tensor: {error}") from None


def _require_torch() -> None:
    found = environment.environment()
    if not environment.holds({"torch": ">=1.13"}, found):
        raise CannotRun(
            f"following a model needs torch 1.13 or newer, for any operator in float64; this is {found.get('torch')}"
        )


def _require_memory(session: Session, images: np.ndarray) -> None:
    batch, _, height, width = images.shape
    needed = VALUES * batch * session.detector.activations((height, width))
    total = environment.memory_bytes()
    if total and needed > MEMORY_SHARE * total:
        raise CannotRun(
            f"following the model at {height}x{width} takes about {needed / 1e9:.0f} GB, and this machine has {total / 1e9:.0f} GB"
        )


def _program(context: AnyContext, case: Case) -> Union[OnnxProgram, ScriptProgram]:
    images = context.batch(case) if isinstance(context, Context) else context.fed(case)
    if context.artifact.kind == "torchscript":
        return ScriptProgram(context.artifact.path, images)
    if context.artifact.kind != "onnx":
        raise CannotRun(f"a file of {context.artifact.kind} cannot be followed tensor by tensor")
    feed = _feed(context.form, images, context.filled) if isinstance(context, Context) else context.feed(case)
    return OnnxProgram(context.artifact.path, context.onnx.graph, context.form.image, feed, context.engine())


def _feed(form: InputForm, images: np.ndarray, filled: str) -> Dict[str, np.ndarray]:
    return form.feed(form.image, images, filled) if images.ndim == 4 else {form.image: images.astype(np.float32)}


def _trace(session: Session, context: AnyContext, images: np.ndarray) -> Trace:
    if isinstance(context, Context):
        from detparity.models.yolov7.recorded import trace

        _require_memory(session, images)
        found: Trace = trace(session.detector, images)
        return found
    reference: Any = context.oracle.reference
    if isinstance(reference, GraphReference):
        return _graph_trace(reference, images)
    if not hasattr(reference, "trace"):
        raise CannotRun(f"{reference.facts.title} cannot be followed operator by operator")
    with_batch: Trace = reference.trace(context.oracle.taken(images))
    return with_batch


def _graph_trace(reference: GraphReference, images: np.ndarray) -> Trace:
    """A graph that is its own reference, node by node: nodes are its modules."""
    graph = onnx_graph.read(reference.path, client()).graph
    form = input_form(graph)
    program = OnnxProgram(reference.path, graph, form.image, _feed(form, images, "ones"), reference.runtime)
    shown = [name for part in program.parts for name in part.makes]
    values = program.exact({}, shown)
    numbers = {form.image: 0, **{name: number for number, name in enumerate(shown, 1)}}
    steps = [Step("image", "")]
    for part in program.parts:
        reads = tuple(numbers[name] for name in part.reads)
        steps += [Step(part.operator, part.title, reads, name in program.fixed) for name in part.makes]
    kinds = {part.title: part.operator for part in program.parts}
    outputs = tuple(numbers[name] for name in program.outputs if name in numbers)
    return Trace(tuple(steps), (images.astype(np.float64), *(values[name] for name in shown)), kinds, outputs)
