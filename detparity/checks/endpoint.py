"""A model that a server runs: what the server states of it against what the file promises, and what many clients at once are answered.

The file states the contract, the server gives the numbers. All other checks that run there ask the server in place of an engine.
"""

from __future__ import annotations

import math
import threading
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, replace
from typing import Any, Dict, Iterator, List, Mapping, Sequence, Set, Tuple, Union

import numpy as np

from detparity.artifacts.onnx_graph import Value
from detparity.checks import OVER_THE_WIRE, nms, parity
from detparity.checks.context import Context
from detparity.checks.foreign.context import ForeignContext
from detparity.checks.foreign.parity import judged_of
from detparity.checks.interface import shape_text
from detparity.core.case import Case
from detparity.core.contract import MUST, SHOULD
from detparity.core.endpoint import DATATYPES, Served, Tensor
from detparity.core.errors import EngineDied, EngineError
from detparity.core.findings import CannotRun, Check, Finding, Row
from detparity.core.text import listed
from detparity.core.vocabulary import Arrays
from detparity.engines import kserve

AnyContext = Union[Context, ForeignContext]
KINDS = ("noise", "natural", "scene", "gradient")  # one a client
SIZES = (1, 2, 3, 1)  # images of each client's request, where the batch varies
ROUNDS = 3  # requests of each client


def served(context: AnyContext) -> Served:
    """What the server states, asked once."""
    if "served" not in context.notes:
        assert context.endpoint is not None
        context.notes["served"] = kserve.served(context.endpoint)
    found: Served = context.notes["served"]
    return found


def names(context: AnyContext) -> Iterator[Finding]:
    """Names of inputs and outputs that the server states. Their order is of no account: the protocol sends them by name."""
    for what, own, stated in _sides(context):
        if {one.name for one in own} != {one.name for one in stated}:
            yield Finding(
                f"is served with other {what} than it has: {listed([one.name for one in stated], 4)}.",
                (("file", ", ".join(one.name for one in own)), ("server", ", ".join(one.name for one in stated))),
                notes=("The server runs another file, or its configuration renames them.",),
                evidence={what: [one.name for one in stated]},
            )


def tensors(context: AnyContext) -> Iterator[Finding]:
    """Datatypes and shapes that the server states."""
    varying: Set[object] = set()  # symbols of the inputs; others are what an exporter left open
    for what, own, stated in _sides(context):
        by_name = {one.name: one for one in stated}
        if what == "inputs":
            varying.update(dim for value in own for dim in value.shape or () if not isinstance(dim, int))
        for value in own:
            tensor = by_name[value.name]
            level, clause = _problem(value, tensor, varying)
            if level:
                yield Finding(
                    f"is served with {what[:-1]} {value.name!r} {clause}.",
                    (
                        ("file", f"{value.dtype} {shape_text(value.shape)}"),
                        ("server", f"{tensor.datatype} {list(tensor.shape)}"),
                    ),
                    evidence={"tensor": value.name, "shape": list(tensor.shape), "datatype": tensor.datatype},
                    level=level,
                )


def _sides(context: AnyContext) -> Iterator[Tuple[str, Sequence[Value], Sequence[Tensor]]]:
    """Inputs, then outputs: of the file, and as the server states them. Raises CannotRun where either names none."""
    if context.artifact.kind != "onnx":
        raise CannotRun("a TorchScript file has no names for its inputs and outputs", hides=False)
    found, graph = served(context), context.onnx.graph
    if not found.inputs and not found.outputs:
        raise CannotRun("the server states no inputs and outputs", hides=False)
    yield "inputs", [one for one in graph.inputs if one.name not in graph.initializers], found.inputs
    yield "outputs", graph.outputs, found.outputs


def _problem(value: Value, tensor: Tensor, varying: Set[object]) -> Tuple[str, str]:
    """Level and clause of how a server states a tensor otherwise than the file; empty where it does not. varying: the symbols of axes
    that vary."""
    dtype = DATATYPES.get(tensor.datatype)
    if dtype is None or dtype.name != value.dtype:
        return MUST, f"as {tensor.datatype} where it is {value.dtype}"
    if not tensor.shape or value.shape is None:
        return "", ""
    if len(tensor.shape) != len(value.shape):
        return MUST, f"of {len(tensor.shape)} axes where it has {len(value.shape)}"
    for axis, (own, stated) in enumerate(zip(value.shape, tensor.shape)):
        if isinstance(own, int) and stated >= 0 and own != stated:
            return MUST, f"with {stated} on axis {axis} where it has {own}"
        if own in varying and stated >= 0:
            return MUST, f"with axis {axis} fixed at {stated} where it varies"
    wide = [axis for axis, (own, one) in enumerate(zip(value.shape, tensor.shape)) if isinstance(own, int) and one < 0]
    return (SHOULD, f"with axis {wide[0]} open where it takes {value.shape[wide[0]]} alone") if wide else ("", "")


@dataclass(frozen=True, eq=False)
class _Client:
    """What one client asks again and again, what it is answered when nothing else runs, and when others ask at once."""

    case: Case
    alone: Arrays
    answers: Tuple[Union[Arrays, EngineError], ...]


def concurrency(context: AnyContext) -> Iterator[Finding]:
    """Several clients at once, each with a picture of its own: each answer is to the picture that was sent."""
    others = tuple(("natural", slot) for slot in range(1, context.contract.batch))
    yield from _together(context, [Case(context.contract.size, ((kind, 0), *others)) for kind in KINDS])


def batching(context: AnyContext) -> Iterator[Finding]:
    """The same with batches of several sizes at once, which a server that joins requests has to divide again."""
    pictures = [(kind, 0) for kind in KINDS]
    cases = [Case(context.contract.size, tuple((pictures * 2)[k : k + count])) for k, count in enumerate(SIZES)]
    yield from _together(context, cases)


def _together(context: AnyContext, cases: Sequence[Case]) -> Iterator[Finding]:
    clients = _asked(context, cases)
    asked = sum(len(one.answers) for one in clients)
    wrong: List[Row] = []
    mixed = False
    for number, client in enumerate(clients):
        for answer in client.answers:
            if isinstance(answer, EngineError):
                yield Finding(
                    f"refuses {client.case} when {len(clients)} clients ask at once.",
                    notes=(str(answer)[:600],),
                    evidence={"case": client.case, "refused": str(answer)[:600]},
                )
                return
            if _equal(answer, client.alone) or not _findings(context, client.case, answer):
                continue
            if _findings(context, client.case, client.alone):
                raise CannotRun(f"its answer to {client.case} is wrong for one client already", hides=False)
            other = _nearest(answer, clients)
            mixed = mixed or other != number
            what = f"that to client {other}" if other != number else "another"
            wrong.append((str(number), str(client.case), what))
    if wrong:
        first = f"gives a client the answer to another one's {'picture' if len(set(map(_count, clients))) == 1 else 'request'}"
        clause = first if mixed else "gives other numbers"
        yield Finding(
            f"{clause} when {len(clients)} clients ask at once: {len(wrong)} of {asked} answers.",
            (("client", "asked", "answer"), *sorted(set(wrong))[:6]),
            headed=True,
            notes=("Each of them is right when it is asked alone: requests share something inside the server.",),
            evidence={"wrong": len(wrong), "asked": asked, "mixed": mixed},
        )


def _count(client: _Client) -> int:
    return len(client.case.pictures)


def _asked(context: AnyContext, cases: Sequence[Case]) -> List[_Client]:
    """Every case alone, then all of them at once, `ROUNDS` times."""
    runner = context.runner()
    feeds = [_feed(context, case, runner) for case in cases]
    alone = [context.predict(case) for case in cases]
    start = threading.Barrier(len(cases))

    def client(feed: Arrays) -> List[Union[Arrays, EngineError, EngineDied]]:
        found: List[Union[Arrays, EngineError, EngineDied]] = []
        start.wait()
        for _ in range(ROUNDS):
            try:
                found.append(runner.call(feed))
            except (EngineError, EngineDied) as error:
                found.append(error)
                break
        return found

    with context.engine_runs(context.engine()):
        with ThreadPoolExecutor(len(cases)) as pool:
            answers = list(pool.map(client, feeds))
        for one in (answer for every in answers for answer in every):
            if isinstance(one, EngineDied):
                raise one
    return [
        _Client(case, first, tuple(_read(context, case, answer) for answer in every))
        for case, first, every in zip(cases, alone, answers)
    ]


def _feed(context: AnyContext, case: Case, runner: Any) -> Arrays:
    if isinstance(context, ForeignContext):
        return context.feed(case, runner.input_names)
    return context.feed(context.batch(case), context.filled, runner)


def _read(context: AnyContext, case: Case, answer: Any) -> Any:
    """An answer in the order of axes in which it is judged."""
    if isinstance(answer, EngineError) or isinstance(context, ForeignContext):
        return answer
    return context.read(answer, case.size)


def _findings(context: AnyContext, case: Case, outputs: Arrays) -> List[Finding]:
    if isinstance(context, ForeignContext):
        found = judged_of(context, case, context.chosen_truth(case), outputs)
        return [found] if found is not None else []
    module = nms if context.contract.variant.end2end else parity
    return list(module.judge_outputs(context, case, outputs))


def _equal(one: Arrays, other: Arrays) -> bool:
    return all(np.array_equal(one[name], other[name], equal_nan=one[name].dtype.kind == "f") for name in other)


def _nearest(answer: Arrays, clients: Sequence[_Client]) -> int:
    """The client whose own answer this is, or is nearest to."""
    return min(range(len(clients)), key=lambda number: _distance(answer, clients[number].alone))


def _distance(one: Arrays, other: Arrays) -> float:
    total = 0.0
    for name, array in other.items():
        if one[name].shape != array.shape:
            return math.inf
        total += float(np.abs(one[name].astype(np.float64) - array).sum())
    return total if math.isfinite(total) else math.inf


def on_endpoint(checks: Mapping[str, Check]) -> Dict[str, Check]:
    """Of some checks those that a server's answers decide; they need what the server states, not what a file does in an engine."""
    first, last = ({check.id: check for check in some} for some in (CHECKS[:2], CHECKS[2:]))
    wired = {name: replace(one, needs=NAMED) for name, one in checks.items() if name in OVER_THE_WIRE}
    return {**first, **wired, **last}


def _always(contract: Any) -> bool:
    return True


def _batch_varies(contract: Any) -> bool:
    variant = getattr(contract, "variant", None)
    return bool(contract.varies_batch if variant is None else variant.dynamic_batch)


NAMED = ("endpoint.names",)
CHECKS: Tuple[Check, ...] = (
    Check("endpoint.names", MUST, "The server's names of inputs and outputs are the file's.", names, _always),
    Check("endpoint.tensors", MUST, "The server states the file's datatypes and shapes.", tensors, _always, NAMED),
    Check(
        "endpoint.concurrency",
        MUST,
        "Clients that ask at once are answered each to its own picture.",
        concurrency,
        _always,
        NAMED,
    ),
    Check(
        "endpoint.batching",
        MUST,
        "Batches of several sizes that ask at once are answered rightly.",
        batching,
        _batch_varies,
        NAMED,
    ),
)
