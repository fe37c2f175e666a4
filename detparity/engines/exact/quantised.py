"""Quantised operators by their semantics: integers are exact in float64, scales are float64, results are rounded half to even."""

from __future__ import annotations

from typing import Any, Callable, List, Optional, Tuple

import numpy as np

from detparity.engines.exact.operator import Array, Node, along, refuse, saturated
from detparity.engines.exact.windows import conv

_KINDS = {2: np.uint8, 3: np.int8, 4: np.uint16, 5: np.int16, 6: np.int32}  # of onnx.TensorProto


def _spread(node: Node, values: Optional[Array], x: Array) -> Array:
    """Scales or zero points as they apply to `x`: one, one a cell of `axis`, or one a block of it."""
    if values is None:
        return np.zeros((), np.int64)
    block, axis = int(node.get("block_size", 0)), int(node.get("axis", 1))
    if block:
        spread = np.repeat(values, block, axis=axis)
        return spread[(slice(None),) * (axis % x.ndim) + (slice(x.shape[axis]),)]
    return along(values, x.ndim, axis)


def _integer(kind: Any) -> None:
    refuse(np.dtype(kind).kind not in "iu", f"numbers of type {np.dtype(kind).name} are not supported")


def quantize(node: Node, x: Array, scale: Array, zero: Any = None) -> Array:
    kind = np.uint8 if zero is None else zero.dtype
    if zero is None and node.get("output_dtype"):
        refuse(int(node.attributes["output_dtype"]) not in _KINDS, "its output type is not supported")
        kind = _KINDS[int(node.attributes["output_dtype"])]
    _integer(kind)
    shift = _spread(node, zero, x).astype(np.float64)
    return saturated(np.rint(x / _spread(node, scale, x)) + shift, kind)


def dequantize(node: Node, x: Array, scale: Array, zero: Any = None) -> Array:
    _integer(x.dtype)
    shifted = x.astype(np.float64) - _spread(node, zero, x).astype(np.float64)
    return (shifted * _spread(node, scale, x)).astype(node.kind)


def dynamic_quantize(node: Node, x: Array) -> Tuple[Array, Array, Array]:
    low, high = min(float(x.min()), 0.0), max(float(x.max()), 0.0)
    scale = (high - low) / 255 if high > low else 1.0
    zero = saturated(-low / scale, np.uint8)
    return saturated(np.rint(x / scale) + float(zero), np.uint8), np.array(scale, node.kind), np.array(zero)


def _less(values: Array, zero: Any, axis: Optional[int] = None) -> Array:
    """Integers without their zero point, as float64."""
    shift = np.zeros(()) if zero is None else np.asarray(zero, np.float64)
    return values.astype(np.float64) - (shift if axis is None else along(shift, values.ndim, axis))


def conv_integer(node: Node, x: Array, w: Array, x_zero: Any = None, w_zero: Any = None) -> Array:
    return np.rint(conv(node, _less(x, x_zero), _less(w, w_zero, 0))).astype(np.int32)


def matmul_integer(_: Node, a: Array, b: Array, a_zero: Any = None, b_zero: Any = None) -> Array:
    """A vector of zero points belongs to the rows of `a`, or to the columns of `b`."""
    rows = -2 if np.size(a_zero if a_zero is not None else 0) > 1 and np.ndim(a_zero) == 1 else None
    shifted = _less(a, a_zero, rows)
    return np.rint(shifted @ _less(b, b_zero)).astype(np.int32)


def _result(values: Array, scale: Array, zero: Any, kind: Any) -> Array:
    """Numbers in units of a scale, as integers about a zero point."""
    shift = 0.0 if zero is None else np.asarray(zero, np.float64)
    return saturated(np.rint(values / scale) + shift, kind if zero is None else zero.dtype)


def linear_conv(node: Node, *inputs: Any) -> Array:
    x, x_scale, x_zero, w, w_scale, w_zero, y_scale, y_zero, b = (*inputs, None)[:9]
    bias = None if b is None else b.astype(np.float64)
    found = conv(node, _less(x, x_zero), _less(w, w_zero, 0), bias)
    return _result(found * x_scale * along(w_scale, found.ndim, 1), y_scale, y_zero, x.dtype)


def linear_matmul(_: Node, *inputs: Any) -> Array:
    a, a_scale, a_zero, b, b_scale, b_zero, y_scale, y_zero = inputs

    def rows(values: Any) -> Any:
        return values[..., None] if values is not None and np.ndim(values) == 1 and np.size(values) > 1 else values

    found = _less(a, rows(a_zero)) @ _less(b, b_zero)
    return _result(found * (rows(a_scale) * b_scale), y_scale, y_zero, a.dtype)


def _real(x: Array, scale: Array, zero: Any) -> Array:
    return _less(x, zero) * scale


def _of_two(function: Callable[[Array, Array], Array]) -> Callable[..., Array]:
    def call(_: Node, *inputs: Any) -> Array:
        y_scale, y_zero = (*inputs[6:], None)[:2]
        return _result(function(_real(*inputs[:3]), _real(*inputs[3:6])), y_scale, y_zero, inputs[0].dtype)

    return call


def _of_one(function: Callable[[Node, Array], Array]) -> Callable[..., Array]:
    def call(node: Node, *inputs: Any) -> Array:
        y_scale, y_zero = (*inputs[3:], None)[:2]
        return _result(function(node, _real(*inputs[:3])), y_scale, y_zero, inputs[0].dtype)

    return call


def _space(node: Node, x: Array) -> Array:
    axes = tuple(range(1, x.ndim - 1)) if node.get("channels_last", 0) else tuple(range(2, x.ndim))
    return x.mean(axis=axes, keepdims=True)


linear_add, linear_mul = _of_two(np.add), _of_two(np.multiply)
linear_sigmoid = _of_one(lambda _, x: 1 / (1 + np.exp(-x)))
linear_leaky_relu = _of_one(lambda node, x: np.where(x < 0, node.get("alpha", 0.01) * x, x))
linear_average = _of_one(_space)


def linear_concat(node: Node, y_scale: Array, y_zero: Any, *inputs: Any) -> Array:
    parts: List[Array] = [_real(*inputs[index : index + 3]) for index in range(0, len(inputs), 3)]
    return _result(np.concatenate(parts, axis=int(node.attributes["axis"])), y_scale, y_zero, inputs[0].dtype)
