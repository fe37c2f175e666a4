"""Arithmetic that onnx's evaluator does slowly, in float32, or by the rules of another opset."""

from __future__ import annotations

import math
from typing import Any, Callable, Mapping, Tuple

import numpy as np
import torch

from detparity.engines.exact.operator import Array, Node, along, floating, tensor
from detparity.engines.exact.windows import conv


def _torch(function: Callable[[torch.Tensor], torch.Tensor]) -> Callable[..., Array]:
    return lambda node, x: function(tensor(x)).numpy()


sigmoid, erf = _torch(torch.sigmoid), _torch(torch.erf)
softplus = _torch(lambda x: torch.nn.functional.softplus(x, threshold=1e6))
mish = _torch(lambda x: x * torch.tanh(torch.nn.functional.softplus(x, threshold=1e6)))
hard_swish = _torch(lambda x: x * (x / 6 + 0.5).clamp(0, 1))


def gelu(node: Node, x: Array) -> Array:
    if node.text("approximate", "none") == "tanh":
        return 0.5 * x * (1 + np.tanh(math.sqrt(2 / math.pi) * (x + 0.044715 * x**3)))
    return 0.5 * x * (1 + erf(node, x / math.sqrt(2)))


def quick_gelu(node: Node, x: Array) -> Array:
    return x * sigmoid(node, node.get("alpha", 1.702) * x)


def divide(_: Node, a: Array, b: Array) -> Array:
    """Of integers: towards zero."""
    if floating(a):
        return np.divide(a, b)
    return torch.div(tensor(a), tensor(b), rounding_mode="trunc").numpy()


def _last_axes(function: Callable[[torch.Tensor, int], torch.Tensor]) -> Callable[..., Array]:
    """Before opset 13 all axes from `axis` on are one."""

    def call(node: Node, x: Array) -> Array:
        if node.opset >= 13:
            return function(tensor(x), int(node.get("axis", -1))).numpy()
        axis = int(node.get("axis", 1)) % max(x.ndim, 1)
        flat = x.reshape(int(np.prod(x.shape[:axis])), -1)
        return function(tensor(flat), 1).numpy().reshape(x.shape)

    return call


softmax, log_softmax = _last_axes(torch.softmax), _last_axes(torch.log_softmax)


def batch_normalization(
    node: Node, x: Array, scale: Array, bias: Array, mean: Array, variance: Array
) -> Tuple[Array, ...]:
    """With the running statistics; with the batch's own where `training_mode` (or, up to opset 6, no `is_test`) asks for these."""
    epsilon = node.get("epsilon", 1e-5)
    training = node.get("training_mode", 0) if node.opset >= 7 else not node.get("is_test", 0)
    more: Tuple[Array, ...] = ()
    if training:
        others = tuple(axis for axis in range(x.ndim) if axis != 1)
        momentum = node.get("momentum", 0.9)
        own = x.mean(axis=others), x.var(axis=others)
        more = tuple(old * momentum + new * (1 - momentum) for old, new in zip((mean, variance), own))
        mean, variance = own
    factor = scale / np.sqrt(variance + epsilon)
    return ((x - along(mean, x.ndim, 1)) * along(factor, x.ndim, 1) + along(bias, x.ndim, 1), *more)


def layer_normalization(node: Node, x: Array, scale: Array, bias: Any = None) -> Tuple[Array, Array, Array]:
    axes = tuple(range(int(node.get("axis", -1)) % x.ndim, x.ndim))
    mean = x.mean(axis=axes, keepdims=True)
    inverse = 1 / np.sqrt(np.square(x - mean).mean(axis=axes, keepdims=True) + node.get("epsilon", 1e-5))
    found = (x - mean) * inverse * scale
    return (found if bias is None else found + bias), mean, inverse


def rms_normalization(node: Node, x: Array, scale: Array) -> Array:
    axes = tuple(range(int(node.get("axis", -1)) % x.ndim, x.ndim))
    return x / np.sqrt(np.square(x).mean(axis=axes, keepdims=True) + node.get("epsilon", 1e-5)) * scale


def group_normalization(node: Node, x: Array, scale: Array, bias: Array) -> Array:
    """Scale and bias of each channel from opset 21 on, of each group before."""
    groups, epsilon = int(node.attributes["num_groups"]), node.get("epsilon", 1e-5)
    grouped = x.reshape(len(x), groups, -1)
    grouped = (grouped - grouped.mean(axis=2, keepdims=True)) / np.sqrt(grouped.var(axis=2, keepdims=True) + epsilon)
    if node.opset >= 21:
        return grouped.reshape(x.shape) * along(scale, x.ndim, 1) + along(bias, x.ndim, 1)
    return (grouped * along(scale, 3, 1) + along(bias, 3, 1)).reshape(x.shape)


def constant(node: Node) -> Array:
    name, value = next((name, value) for name, value in node.attributes.items() if value is not None)
    kinds: Mapping[str, Any] = {"value_float": node.kind, "value_floats": node.kind, "value_string": np.str_}
    kinds = {**kinds, "value_int": np.int64, "value_ints": np.int64, "value_strings": np.str_}
    return value if name in ("value", "sparse_value") else np.array(value, kinds[name])


def constant_of_shape(node: Node, shape: Array) -> Array:
    value = node.get("value")
    filled = np.zeros(1, node.kind) if value is None else np.ravel(value)
    return np.full([int(size) for size in shape], filled[0], filled.dtype)


def as_float32(_: Node, x: Array) -> Array:
    """Numbers that follow from shapes, as the file's own type holds them, before they become integers."""
    return x.astype(np.float32).astype(x.dtype) if floating(x) else x


_ACTIVATIONS: Mapping[str, Callable[..., Array]] = {
    "Relu": lambda x: np.maximum(x, 0),
    "Tanh": np.tanh,
    "Sigmoid": lambda x: 1 / (1 + np.exp(-x)),
    "LeakyRelu": lambda x, alpha=0.01: np.where(x < 0, alpha * x, x),
    "HardSigmoid": lambda x, alpha=0.2, beta=0.5: np.clip(alpha * x + beta, 0, 1),
    "Clip": np.clip,
}


def fused_conv(node: Node, x: Array, w: Array, b: Any = None, added: Any = None) -> Array:
    """ONNX Runtime's convolution with a sum and an activation."""
    found = conv(node, x, w, b)
    found = found if added is None else found + added
    name = node.text("activation", "")
    return _ACTIVATIONS[name](found, *node.get("activation_params", [])) if name else found


def fused_matmul(node: Node, a: Array, b: Array) -> Array:
    a = np.swapaxes(a, -1, -2) if node.get("transA", 0) else a
    b = np.swapaxes(b, -1, -2) if node.get("transB", 0) else b
    return node.get("alpha", 1.0) * (a @ b)
