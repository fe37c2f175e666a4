"""How an operator of ours becomes one of onnx's reference evaluator: a function of a `Node` and its input arrays."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Callable, Mapping, Optional, Sequence, Tuple, Type, Union

import numpy as np
import torch
from onnx.reference.op_run import OpRun

from detparity.core.errors import EngineError

Array = Any  # numpy's, of any type
Outputs = Union[Array, Tuple[Array, ...]]
Function = Callable[..., Outputs]


@dataclass(frozen=True)
class Node:
    """attributes: those the file gives, no defaults; opset: of the operator's domain; kind: what floating-point numbers are
    evaluated in; outputs: how many the file asks for."""

    attributes: Mapping[str, Any]
    opset: int
    kind: Any
    outputs: int = 1

    def get(self, name: str, default: Any = None) -> Any:
        value = self.attributes.get(name)
        return default if value is None else value

    def text(self, name: str, default: str) -> str:
        value = self.get(name, default)
        return value.decode() if isinstance(value, bytes) else str(value)


class Operator(OpRun):
    """An operator of ours. Its schema is left out: the evaluator would fill in the defaults of the newest opset."""

    op_schema = None
    function: Function

    def _run(self, *inputs: Array, **attributes: Any) -> Tuple[Array, ...]:
        evaluator = self.run_params["evaluator_cls"]
        opset = self.run_params["opsets"].get(self.onnx_node.domain, 1)
        outputs = max((index + 1 for index, name in enumerate(self.onnx_node.output) if name), default=1)
        node = Node(attributes, opset, evaluator.kind, outputs)
        found = type(self).function(node, *inputs)
        return found if isinstance(found, tuple) else (found,)


def operator(name: str, function: Function, domain: str = "") -> Type[OpRun]:
    """The evaluator's class for an operator."""
    return type(name, (Operator,), {"op_domain": domain, "function": staticmethod(function), "__module__": __name__})


def tensor(array: Array) -> torch.Tensor:
    """An array as a tensor, without a copy where torch can share it."""
    return torch.from_numpy(np.require(array, requirements=["C", "W"]))


def along(values: Array, rank: int, axis: int) -> Array:
    """A vector, or a single number, shaped to work along one axis of a tensor of this rank."""
    values = np.asarray(values)
    if values.size == 1:
        return values.reshape(())
    return values.reshape([-1 if index == axis % rank else 1 for index in range(rank)])


def floating(array: Array) -> bool:
    return bool(np.issubdtype(np.asarray(array).dtype, np.floating))


def saturated(values: Array, kind: Any) -> Array:
    """Numbers as integers of a type: rounded half to even, clipped to its range."""
    limits = np.iinfo(kind)
    return np.clip(np.rint(values), limits.min, limits.max).astype(kind)


def numbers(values: Optional[Sequence[Any]]) -> Optional[Array]:
    """An optional input; an empty one is left out."""
    return None if values is None or not np.size(values) else np.asarray(values)


def refuse(condition: bool, reason: str) -> None:
    if condition:
        raise EngineError(reason)
