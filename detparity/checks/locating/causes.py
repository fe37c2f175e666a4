"""Why a fault goes wrong: changes are tried on the fault alone, and one is named only where it leaves nothing beyond the noise."""

from __future__ import annotations

from dataclasses import replace
from typing import Callable, Iterator, Optional, Tuple

import numpy as np

from detparity.artifacts import onnx_fed
from detparity.artifacts.onnx_variants import variants
from detparity.checks.locating import weight_causes
from detparity.checks.locating.bundle import Part, part_of
from detparity.checks.locating.matching import Noise
from detparity.checks.locating.program import HOW, RUNTIME
from detparity.checks.locating.relations import Cause, Evidence, explain
from detparity.checks.locating.search import Fault, Search
from detparity.core.errors import EngineDied, EngineError
from detparity.core.trace import IMAGE
from detparity.engines.remote import client

FIX = "Export that operator as the model has it; where an exporter or converter cannot, another opset or version usually can."
FEWEST = 8  # different numbers, that say anything
IMAGES: Tuple[Tuple[str, str, Callable[[np.ndarray], np.ndarray]], ...] = (
    ("image channels reversed", "it reverses the channels of its image (BGR for RGB)", lambda x: x[:, ::-1]),
    ("image scaled twice", "it divides its image by 255", lambda x: x * 255),
    ("image not scaled", "it takes its image from 0 to 255", lambda x: x / 255),
    ("image from -1 to 1", "it takes its image from -1 to 1", lambda x: x * 2 - 1),
    ("image mirrored", "its image is mirrored", lambda x: x[..., ::-1]),
    ("image upside down", "its image is upside down", lambda x: x[..., ::-1, :]),
    ("image transposed", "height and width of its image are exchanged", lambda x: x.swapaxes(-1, -2)),
)


def cause_of(search: Search, fault: Fault) -> Optional[Cause]:
    """The cause of a fault; None where none that is known explains all of it."""
    try:
        try:
            part = part_of(search, fault)
        except EngineError:  # of TorchScript, which no part is cut out of
            return _by_numbers(search, fault)
        return _tried(search, fault, part)
    except (EngineError, EngineDied):
        return None


def _by_numbers(search: Search, fault: Fault) -> Optional[Cause]:
    """What the numbers alone show."""
    ends, _ = search.file.before(fault.tensor, set(search.known) - {fault.tensor})
    given = {name: search.given(name) for name in ends}
    image = search.program.image
    rest = {name: value for name, value in given.items() if name != image}
    found = search.program.rounded(rest, [fault.tensor])[fault.tensor].astype(np.float64)
    expected = search.given(fault.tensor)
    if np.unique(expected).size < FEWEST:
        return None
    at = Evidence(tuple(given.values()), found, expected, Noise(fault.noise, fault.largest))
    return explain(at) or _of_sum(search, fault, at)


def _tried(search: Search, fault: Fault, part: Part) -> Optional[Cause]:
    noise = Noise(fault.noise, fault.largest)
    exact = tuple(one.astype(np.float64) for one in part.inputs if one.dtype.kind == "f")
    at = Evidence(exact, part.found, part.expected, noise)
    if np.unique(part.expected).size < FEWEST:
        return None
    for cause, found in _guesses(search, fault, part):
        idle = any(one.shape == found.shape and np.allclose(one, found) for one in exact)
        if at.same(found) and not idle:  # an operator that would change nothing is one too many, not another one
            left = float(np.sqrt(np.mean((found - part.expected) ** 2)))
            return replace(cause, left=left)
    return _of_weights(search, fault, part, at) or explain(at) or _of_sum(search, fault, at)


def _of_weights(search: Search, fault: Fault, part: Part, at: Evidence) -> Optional[Cause]:
    """Weights of one convolution, where the model's own in their stead leave nothing."""
    file, model = onnx_fed.weights_of(part.model), weight_causes.of_model(search.trace, fault.numbers)
    if file is None or model is None or file[0].shape != model[0][0].shape:
        return None
    made = _ran(onnx_fed.with_weights(part.model, *model[0]), part.inputs, part.expected.shape)
    if made is None or not at.same(made):
        return None
    bias = np.zeros(len(file[0])) if file[1] is None else file[1].astype(np.float64)
    found = weight_causes.cause((file[0].astype(np.float64), bias), *model)
    return replace(found, left=float(np.sqrt(np.mean((made - part.expected) ** 2))))


def _guesses(search: Search, fault: Fault, part: Part) -> Iterator[Tuple[Cause, np.ndarray]]:
    """What the part gives with its nodes changed back, or with another image."""
    for kind, sentence, model in variants(part.model):
        found = _ran(model, part.inputs, part.expected.shape)
        if found is not None:
            yield Cause(kind, sentence, FIX), found
    ends, _ = search.file.before(fault.tensor, set(search.known) - {fault.tensor})
    if search.program.image in ends and fault.made != IMAGE:
        for kind, sentence, change in IMAGES:
            given = tuple(
                np.ascontiguousarray(change(one).astype(one.dtype)) if _is_image(one) else one for one in part.inputs
            )
            found = _ran(part.model, given, part.expected.shape)
            if found is not None:
                yield Cause(kind, sentence, "Export without that preprocessing, or give the file what it takes."), found


def _is_image(given: np.ndarray) -> bool:
    return given.ndim in (3, 4) and given.shape[-3] == 3


def _ran(model: bytes, inputs: Tuple[np.ndarray, ...], shape: Tuple[int, ...]) -> Optional[np.ndarray]:
    """What a changed part gives; None where it does not run or gives another shape."""
    try:
        runner = client().prepare(RUNTIME, model, HOW[RUNTIME])
        (found,) = runner.call(dict(zip(runner.input_names, inputs))).values()
    except EngineError:
        return None
    return found.astype(np.float64) if found.shape == shape else None


def _of_sum(search: Search, fault: Fault, at: Evidence) -> Optional[Cause]:
    """A term or a factor that the model has and the file has not: one of the tensors that the model's operator reads."""
    for number in search.trace.steps[fault.made].reads:
        value = search.trace.values[number]
        if value.size != at.expected.size:
            continue
        value = value.reshape(at.expected.shape)
        step = search.trace.steps[number]
        name = f"what {step.operator} in {search.trace.names.get(step.module, step.module)} gives"
        fix = "Export the sum or product with all of its operands: a pass over the graph has removed one."
        if at.same(at.found + value):
            return Cause("term lost", f"it does not add {name}", fix)
        if at.same(at.found * value):
            return Cause("factor lost", f"it does not multiply by {name}", fix)
    return None
