"""What a TorchScript archive holds: operators, devices, structure of its output. Of a lite one the operators its program calls."""

from __future__ import annotations

from typing import Iterator, List, Tuple

import numpy as np

from detparity.checks.context import Context
from detparity.checks.structure import shape_cases
from detparity.core.contract import MUST, Contract
from detparity.core.errors import EngineError
from detparity.core.findings import Check, Finding, Row
from detparity.core.precision import HALVES
from detparity.core.text import listed

RANDOM = frozenset(
    f"aten::{name}"
    for name in [
        "rand",
        "randn",
        "rand_like",
        "randn_like",
        "randint",
        "randint_like",
        "randperm",
        "bernoulli",
        "multinomial",
        "normal",
        "uniform",
        "random",
        "exponential",
        "rrelu",
    ]
)


def load(context: Context) -> Iterator[Finding]:
    try:
        context.runner()
    except EngineError as error:
        yield Finding("does not load.", notes=(str(error)[:600],))


def operators(context: Context) -> Iterator[Finding]:
    ops = context.script.ops
    python = [kind for kind in ops if "PythonOp" in kind or kind.startswith("^")]
    if python:
        yield Finding(
            f"calls back into Python ({listed(python)}), so it runs in no other process.", evidence={"ops": python}
        )
    random = [kind for kind in ops if kind.rstrip("_") in RANDOM]
    if random:
        yield Finding(f"uses random operators: {listed(random)}.", evidence={"ops": random})
    if context.script.training_ops:
        yield Finding(
            f"acts as in training: {listed(context.script.training_ops)}.",
            evidence={"ops": list(context.script.training_ops)},
        )
    if context.script.training:
        yield Finding("was saved in training mode.")


def batch_norm(context: Context) -> Iterator[Finding]:
    count = sum(
        n for kind, n in context.script.ops.items() if kind in ("aten::batch_norm", "aten::_batch_norm_impl_index")
    )
    if count:
        yield Finding(f"keeps {count} batch-norm calls that should be folded.", evidence={"count": count})


def devices(context: Context) -> Iterator[Finding]:
    found = context.script.devices
    if found:
        rows: List[Row] = [("device", "recorded at"), *found[:8]]
        yield Finding(
            f"has {len(found)} devices frozen into its graph, so it cannot move to another one.",
            tuple(rows),
            headed=True,
            evidence={"devices": [list(item) for item in found]},
        )


def structure(context: Context) -> Iterator[Finding]:
    """Count, types and shapes of what it returns, at the promised sizes."""
    for case in shape_cases(context.contract):
        try:
            produced = context.outputs(case)
        except EngineError as error:
            if case.size == context.contract.size and len(case.pictures) == context.contract.batch:
                text = str(error)[:600]
                yield Finding(f"does not run at {case}.", notes=(text,), evidence={"case": str(case), "refused": text})
            continue
        expected = context.shapes(len(case.pictures), case.size)
        rows: List[Row] = [("output", "promised", "returned")]
        wrong = len(expected) != len(produced)
        for index in range(max(len(expected), len(produced))):
            arrays = list(produced.values())
            found = f"{arrays[index].shape} {arrays[index].dtype}" if index < len(arrays) else "nothing"
            kind = arrays[index].dtype if index < len(arrays) and _own_type(context, arrays[index]) else "float32"
            promised = f"{expected[index]} {kind}" if index < len(expected) else "nothing"
            wrong = wrong or found != promised
            rows.append((str(index), promised, found + ("" if found == promised else "  <-")))
        if wrong:
            yield Finding(
                f"returns other tensors than promised at {case}.",
                tuple(rows),
                headed=True,
                evidence={"case": str(case), "produced": [list(array.shape) for array in produced.values()]},
            )
            return


def _own_type(context: Context, array: np.ndarray) -> bool:
    """Whether an output is of the half precision that the file is judged in."""
    return context.contract.precision in HALVES and array.dtype.name == context.contract.precision


def _on_script(contract: Contract) -> bool:
    return not contract.variant.onnx


def _on_graph(contract: Contract) -> bool:
    return _on_script(contract) and contract.variant.graph


CHECKS: Tuple[Check, ...] = (
    Check("script.load", MUST, "torch loads the archive, the lite interpreter a lite one.", load, _on_script),
    Check("script.operators", MUST, "No Python or random operators, not in training mode.", operators, _on_script),
    Check("script.batch-norm", MUST, "Batch-norm is folded into the convolutions.", batch_norm, _on_script),
    Check("script.devices", MUST, "No device is frozen into the graph.", devices, _on_graph),
    Check(
        "script.structure",
        MUST,
        "What it returns has the promised structure, shapes and types.",
        structure,
        _on_script,
        ("script.load",),
    ),
)
