"""A file of 8 bits with its rounding removed and the model's numbers for its constants: it has to compute the model as one of float32
does, so that a loss in 8 bits hides no other defect."""

from __future__ import annotations

import tempfile
from dataclasses import MISSING, dataclass, fields, replace
from pathlib import Path
from typing import Any, Callable, Dict, Iterator, List, Mapping, Optional, Sequence

import numpy as np

from detparity.artifacts import onnx_graph
from detparity.artifacts.onnx_unrounded import CannotUnround, Rounded, Unrounded
from detparity.checks import nms, parity
from detparity.checks.foreign import parity as foreign_parity
from detparity.checks.foreign.context import ForeignContext, OutputsDiffer
from detparity.checks.precision import _is_onnx, quantised
from detparity.checks.weights import TOLERANCE
from detparity.core.contract import MUST
from detparity.core.errors import EngineError
from detparity.core.findings import BLOCKED, CannotRun, Check, Finding, Row
from detparity.core.precision import FLOAT32, PLAIN
from detparity.core.text import listed
from detparity.engines.remote import client
from detparity.models.reference import CannotRunReference

STEPS = 1.01  # of 8 bits: a quantiser may round up or down
MOSTLY = 0.5  # share of its numbers, from which on a constant is a tensor of the model's
SAMPLE = 500  # numbers that are compared first
LEAST = 16  # numbers of a constant, under which another may be near by chance


@dataclass(frozen=True)
class _Known:
    """The tensor of the model that a constant is a rounding of, None where there is none; share: of its numbers that are the
    nearest's."""

    tensor: Optional[np.ndarray]
    share: float


def unrounded(context: Any) -> Iterator[Finding]:
    """Numbers at the declared size, of the file without rounding, with and without activations that its ranges take the part of."""
    try:
        plain = Unrounded(context.artifact.path)
        tensors = _tensors(context)
        given = {one.name: _known(one, tensors) for one in plain.constants}
        unknown = [one for one in plain.constants if given[one.name].tensor is None and one.value.size > 1]
        changed = [one for one in unknown if given[one.name].share >= MOSTLY]
        if changed:
            yield from _changed(context, changed, given)
            return
        if unknown:
            names = listed([one.title for one in unknown], 2)
            raise CannotUnround(
                f"stores {len(unknown)} of {len(given)} constants in 8 bits that are none of the model's rounded once: {names}"
            )
        found: List[Finding] = []
        numbers = {name: one.tensor for name, one in given.items() if one.tensor is not None}
        for content in dict.fromkeys(plain.model(numbers, cut) for cut in (True, False)):
            found = _judged(context, content)
            if not found:
                return
    except CannotUnround as reason:
        raise CannotRun(f"it cannot be judged without its rounding: it {reason}", hides=False) from None
    except OutputsDiffer as differ:
        raise CannotRun(f"it {differ}", hides=False) from None
    for one in found[:1]:
        note = "Its constants were replaced by the model's, and nothing is rounded: what is left is no loss of 8 bits."
        yield replace(
            one, message=f"without its rounding to 8 bits {one.message}", notes=(*one.notes, note), level=MUST
        )


def _changed(context: Any, changed: Sequence[Rounded], given: Mapping[str, _Known]) -> Iterator[Finding]:
    """Constants that are a tensor of the model but for some of its numbers."""
    earlier = "structure.weights" if hasattr(context.contract, "variant") else "precision.weights"
    if context.outcome(earlier).outcome == "failed":
        raise CannotRun(f"{BLOCKED}{earlier}", hides=False)
    rows: List[Row] = [
        (one.title, f"{round((1 - given[one.name].share) * one.value.size)} of {one.value.size} numbers")
        for one in changed[:8]
    ]
    yield Finding(
        f"stores {len(changed)} constants in 8 bits with other numbers than the model's: first {rows[0][0]}, {rows[0][1]}.",
        tuple(rows),
        evidence={"tensors": [one.title for one in changed]},
    )


def _judged(context: Any, content: bytes) -> List[Finding]:
    """What a file of float32 that holds this is found to do: by a context that remembers nothing of the one of 8 bits."""
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / context.artifact.path.name
        path.write_bytes(content)
        own = {one.name: one.default_factory() for one in fields(context) if one.default_factory is not MISSING}
        other = replace(
            context,
            **{**own, "died": None, "_reported_by": None, "precision": PLAIN},
            **({"hidden": ""} if isinstance(context, ForeignContext) else {}),
            artifact=replace(context.artifact, path=path),
            file=onnx_graph.read(path, client()),
            contract=replace(context.contract, precision=FLOAT32, promised_precision=None),
        )
        try:
            other.runner()
        except EngineError as error:
            raise CannotRun(f"it does not load without its rounding ({str(error)[:160]})", hides=False) from None
        return list(_check(other)(other))


def _check(context: Any) -> Callable[[Any], Iterator[Finding]]:
    if not hasattr(context.contract, "variant"):
        return foreign_parity.declared
    return nms.detections if context.contract.variant.end2end else parity.declared


def _tensors(context: Any) -> List[np.ndarray]:
    """The model's tensors that may be stored: also with batch-norm folded in, or not."""
    if hasattr(context.contract, "variant"):
        return [one for conv in context.weights for one in (conv.weight, conv.plain, conv.bias)]
    ask: Optional[Callable[[], Dict[str, np.ndarray]]] = getattr(context.oracle.reference, "weights", None)
    try:
        return list(ask().values()) if ask is not None else []
    except CannotRunReference as error:
        raise CannotRun(f"the weights of its model are not known: {error}", hides=False) from None


def _known(one: Rounded, tensors: Sequence[np.ndarray]) -> _Known:
    """The nearest tensor of the model that a constant is a rounding of."""
    best: Optional[np.ndarray] = None
    least, most = float("inf"), 0.0
    some = slice(None, None, max(1, one.value.size // SAMPLE))
    steps = np.broadcast_to(one.step, one.value.shape)
    for tensor in (form for every in tensors if every.size == one.value.size for form in _as(every, one.value.shape)):
        slack = TOLERANCE * float(np.abs(tensor).max())
        if _share(one.value.ravel()[some], tensor.ravel()[some], steps.ravel()[some], slack) < MOSTLY / 2:
            continue
        share, error = _share(one.value, tensor, steps, slack), float(np.square(one.value - tensor).sum())
        most = max(most, share)
        if share == 1 and error < least:
            best, least = tensor, error
    return _Known(best, most if one.value.size >= LEAST else float(best is not None))


def _share(value: np.ndarray, tensor: np.ndarray, steps: np.ndarray, slack: float) -> float:
    """The share of numbers that are a rounding of the tensor's."""
    return float((np.abs(value - tensor) <= STEPS * steps + slack).mean())


def _as(tensor: np.ndarray, shape: Sequence[int]) -> Iterator[np.ndarray]:
    """A tensor in a shape that differs by axes of length one, and transposed."""
    wide = [side for side in shape if side > 1]
    for value in (tensor, tensor.T) if tensor.ndim == 2 else (tensor,):
        if [side for side in value.shape if side > 1] == wide:
            yield value.reshape(shape)


def _quantised_onnx(contract: Any) -> bool:
    return quantised(contract) and _is_onnx(contract)


CHECKS = (
    Check(
        "precision.unrounded",
        MUST,
        "Without its rounding to 8 bits the file is the model.",
        unrounded,
        _quantised_onnx,
        ("structure.load", "script.load"),
    ),
)
