"""One run of a model operator by operator: what each of them read and gave, and the module it ran in."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any, Dict, List, Mapping, Sequence, Tuple

import numpy as np

IMAGE = 0  # the number of the value that the model was given


def other(images: np.ndarray) -> np.ndarray:
    """Other images of the same shape and range, by which numbers that depend on the image are known."""
    return np.ascontiguousarray((images[..., ::-1, ::-1] * 0.5 + 0.25).astype(images.dtype))


@dataclass(frozen=True)
class Step:
    """One tensor that an operator gave. operator: its name; module: path of the innermost module that ran; reads: numbers of the
    values it was made of; fixed: whether it is the same for other images of one size."""

    operator: str
    module: str
    reads: Tuple[int, ...] = ()
    fixed: bool = False


@dataclass(frozen=True)
class Trace:
    """steps: in the order they ran, the image the first; values: float64, one for each step; kinds: class of each module, by path;
    outputs: numbers of the values that the model returned; weights: what convolutions and batch-norms read that is no value of the
    run, by the number of their result: weight and bias, or weight, bias, mean, variance and epsilon."""

    steps: Tuple[Step, ...]
    values: Tuple[np.ndarray, ...]
    kinds: Mapping[str, str]
    outputs: Tuple[int, ...] = ()
    names: Mapping[str, str] = field(default_factory=dict)
    weights: Mapping[int, Tuple[np.ndarray, ...]] = field(default_factory=dict)

    def title(self, module: str) -> str:
        """A module by its official path and its class."""
        kind = self.kinds.get(module, "")
        path = self.names.get(module, module) or "the model itself"
        return f"{path} ({kind})" if kind else path


def to_message(trace: Trace) -> Tuple[Dict[str, Any], Dict[str, np.ndarray]]:
    """A trace as JSON and arrays."""
    steps = [[step.operator, step.module, list(step.reads), step.fixed] for step in trace.steps]
    content = {
        "steps": steps,
        "kinds": dict(trace.kinds),
        "outputs": list(trace.outputs),
        "names": dict(trace.names),
    }
    arrays = {str(number): value for number, value in enumerate(trace.values)}
    for number, weights in trace.weights.items():
        arrays.update({f"{number} {index}": _smaller(value) for index, value in enumerate(weights)})
    content["weights"] = {str(number): len(weights) for number, weights in trace.weights.items()}
    return content, arrays


def _smaller(value: np.ndarray) -> np.ndarray:
    """In float32, where that holds every number."""
    with np.errstate(over="ignore"):
        half = value.astype(np.float32)
    return half if np.array_equal(half, value) else value


def from_message(content: Mapping[str, Any], arrays: Mapping[str, np.ndarray]) -> Trace:
    steps: Sequence[List[Any]] = content["steps"]
    return Trace(
        tuple(Step(operator, module, tuple(reads), fixed) for operator, module, reads, fixed in steps),
        tuple(arrays[str(number)] for number in range(len(steps))),
        content["kinds"],
        tuple(content["outputs"]),
        content["names"],
        {int(key): tuple(arrays[f"{key} {k}"] for k in range(count)) for key, count in content["weights"].items()},
    )
