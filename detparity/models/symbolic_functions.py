"""Functions of autograd that export to one operator: their eager result is not used, the operator's documented semantics are.

A `torch.autograd.Function` with a `symbolic` is opaque to an exporter: what its eager `forward` returns need not be what the operator
computes (suppressions that return random rows are in common use). While a module is run as a reference, each known one computes
what its operator states: NonMaxSuppression of ONNX, the plugin EfficientNMS_TRT.
"""

from __future__ import annotations

import contextlib
from dataclasses import dataclass
from typing import Any, Callable, Dict, Iterator, List, Mapping, Optional, Tuple, Type

import numpy as np
import torch
from torch.autograd import Function

from detparity.core.errors import InputError, clipped
from detparity.models.reference import CannotRunReference
from detparity.oracle.nms import efficient_nms, onnx_nms


@dataclass(frozen=True)
class SymbolicCall:
    """One call of such a Function in a run. name: the Function's; operator: what it exports to, "" where that cannot be found out;
    inputs: the operator's tensors."""

    name: str
    operator: str
    inputs: Tuple[np.ndarray, ...]


@dataclass(frozen=True)
class _Node:
    """What a `symbolic` writes."""

    operator: str
    inputs: Tuple[Any, ...]
    attributes: Mapping[str, Any]


class _Graph:
    """The `g` of a `symbolic`: `g.op` alone."""

    def op(self, operator: str, *inputs: Any, outputs: int = 1, **attributes: Any) -> Any:
        node = _Node(operator.split("::")[-1], inputs, {name[:-2]: value for name, value in attributes.items()})
        return node if outputs == 1 else (node,) * outputs


@contextlib.contextmanager
def symbolic_functions() -> Iterator[List[SymbolicCall]]:
    """In the block, Functions with a `symbolic` compute what they export to. Yields their calls.

    An unknown one raises CannotRunReference when it is called.
    """
    calls: List[SymbolicCall] = []
    before = [(one, one.__dict__.get("forward")) for one in _with_symbolic(Function)]
    for function, _ in before:
        function.forward = staticmethod(_forward(function, calls))  # type: ignore[method-assign, assignment]
    try:
        yield calls
    finally:
        for function, forward in before:
            if forward is None:
                del function.forward
            else:
                function.forward = forward  # type: ignore[method-assign]


def _with_symbolic(parent: Type[Any]) -> List[Type[Any]]:
    """Those that are defined so far; torch's own derive none."""
    found: List[Type[Any]] = []
    for one in parent.__subclasses__():
        found += [one] if callable(getattr(one, "symbolic", None)) else []
        found += _with_symbolic(one)
    return list(dict.fromkeys(found))


def _forward(function: Type[Any], calls: List[SymbolicCall]) -> Callable[..., Any]:
    plain = getattr(Function, "setup_context", None)
    with_context = getattr(function, "setup_context", plain) is plain

    def forward(*args: Any) -> Any:
        given = args[1:] if with_context else args
        node = _node(function, given)
        operator = node.operator if node is not None else ""
        inputs = tuple(_numpy(value) for value in (node.inputs if node else given) if _is_tensor(value))
        calls.append(SymbolicCall(function.__name__, operator, inputs))
        compute = KNOWN.get(operator)
        if node is None or compute is None:
            raise CannotRunReference(unknown(function.__name__, operator))
        try:
            return compute(node)
        except (InputError, ValueError, TypeError, IndexError, KeyError) as error:
            raise CannotRunReference(
                f"the inputs of {function.__name__} make no {operator}: {clipped(error)}"
            ) from None

    return forward


def unknown(name: str, operator: str) -> str:
    exports = f"exports to {operator}" if operator else "has a symbolic that cannot be read"
    return (
        f"{name}, a torch.autograd.Function, {exports}, whose result is not known here: its eager result need not be "
        f"that of the file, and the comparison ends there"
    )


def _node(function: Type[Any], given: Tuple[Any, ...]) -> Optional[_Node]:
    """The operator that a Function exports to; None where its `symbolic` needs more than `g.op`."""
    try:
        found = function.symbolic(_Graph(), *given)
    except Exception:  # somebody's code, called with other arguments than it is made for
        return None
    found = found[0] if isinstance(found, tuple) and found else found
    plain = isinstance(found, _Node) and all(
        not isinstance(one, _Node) or one.operator == "Constant" for one in found.inputs
    )
    return found if plain else None


def _is_tensor(value: Any) -> bool:
    return isinstance(value, (torch.Tensor, _Node))


def _numpy(value: Any) -> np.ndarray:
    """An input: a tensor of the call, or a Constant that the `symbolic` made."""
    if isinstance(value, _Node):
        value = next(iter(value.attributes.values()))
    if isinstance(value, torch.Tensor):
        value = value.detach().cpu()
        value = value.float().numpy() if value.dtype in (torch.float16, torch.bfloat16) else value.numpy()
    return np.asarray(value)


def _suppression(node: _Node) -> torch.Tensor:
    """NonMaxSuppression: (n, 3) int64 rows batch, class, box."""
    boxes, scores, *rest = node.inputs
    numbers = [None if value is None else float(_numpy(value).reshape(-1)[0]) for value in rest]
    cap, iou, score = (numbers + [None] * 3)[:3]
    found = onnx_nms(
        _numpy(boxes),
        _numpy(scores),
        int(cap or 0),
        iou or 0.0,
        score,
        int(node.attributes.get("center_point_box", 0)),
    )
    return torch.from_numpy(found)


def _plugin(node: _Node) -> Tuple[torch.Tensor, ...]:
    """EfficientNMS_TRT: num_dets (batch, 1), boxes (batch, cap, 4), scores and classes (batch, cap)."""
    boxes, scores = node.inputs[:2]
    attributes = {"background_class": -1, "score_activation": 0, "box_coding": 0, "class_agnostic": 0}
    attributes.update({key: value for key, value in node.attributes.items() if key != "plugin_version"})
    count, corners, best, classes = efficient_nms(_numpy(boxes), _numpy(scores), **attributes)
    kind = boxes.dtype
    return (
        torch.from_numpy(count),
        torch.from_numpy(corners).to(kind),
        torch.from_numpy(best).to(kind),
        torch.from_numpy(classes),
    )


KNOWN: Dict[str, Callable[[_Node], Any]] = {"NonMaxSuppression": _suppression, "EfficientNMS_TRT": _plugin}
