"""The nodes of a small model changed back, one guess at a time: what an exporter or a converter may have changed in them."""

from __future__ import annotations

import itertools
from typing import Any, Dict, Iterator, List, Optional, Tuple

import numpy as np
import onnx
from onnx import helper, numpy_helper

Guess = Tuple[str, str, bytes]  # kind of the defect, a clause about the file, the model without it
MOST_INPUTS = 4  # of a Concat, of which every order is tried
EPSILONS = (1e-3, 1e-5, 1e-4, 1e-6, 1e-12, 0.0)
LIMITS = ((0.0, 6.0), (0.0, 1.0), (-1.0, 1.0), (0.0, 255.0))


def variants(content: bytes) -> Iterator[Guess]:
    """Every guess about every node."""
    model = onnx.load_from_string(content)
    for index, node in enumerate(model.graph.node):
        rule = RULES.get(node.op_type)
        for kind, sentence, changed in rule(model, node) if rule is not None else ():
            other = onnx.ModelProto()
            other.CopyFrom(model)
            other.graph.node[index].CopyFrom(changed)
            yield kind, sentence, bytes(other.SerializeToString())
    yield from _weights(model)


Changed = Iterator[Tuple[str, str, onnx.NodeProto]]


def _with(node: onnx.NodeProto, **values: Any) -> onnx.NodeProto:
    other = onnx.NodeProto()
    other.CopyFrom(node)
    others = [one for one in other.attribute if one.name not in values]
    del other.attribute[:]
    other.attribute.extend(others)
    other.attribute.extend(helper.make_attribute(key, value) for key, value in values.items() if value is not None)
    return other


def _get(node: onnx.NodeProto, name: str, default: Any) -> Any:
    found = next((one for one in node.attribute if one.name == name), None)
    return default if found is None else helper.get_attribute_value(found)


def _resize(model: onnx.ModelProto, node: onnx.NodeProto) -> Changed:
    own = [_get(node, name, default) for name, default in (
        ("mode", b"nearest"), ("nearest_mode", b"round_prefer_floor"), ("coordinate_transformation_mode", b"half_pixel"))]  # fmt: skip
    mine = [one.decode() if isinstance(one, bytes) else one for one in own]
    kinds = ("resize mode", "resize rounding", "resize coordinates")
    names = ("mode", "nearest_mode", "coordinate_transformation_mode")
    every = (
        ("nearest", "linear", "cubic"),
        ("floor", "ceil", "round_prefer_floor", "round_prefer_ceil"),
        ("asymmetric", "half_pixel", "align_corners", "pytorch_half_pixel"),
    )
    tried = sorted(itertools.product(*every), key=lambda one: sum(a != b for a, b in zip(one, mine)))
    for choice in tried:
        apart = [k for k in range(3) if choice[k] != mine[k] and not (k == 1 and choice[0] != "nearest")]
        if apart:
            text = ", ".join(f"{names[k]} is {mine[k]} where the model has {choice[k]}" for k in apart)
            yield kinds[apart[0]], text, _with(node, **dict(zip(names, choice)))


def _pool(model: onnx.ModelProto, node: onnx.NodeProto) -> Changed:
    yield from _pads(model, node)
    ceil = int(_get(node, "ceil_mode", 0))
    yield "pool rounding", f"ceil_mode is {ceil}", _with(node, ceil_mode=1 - ceil)
    if node.op_type == "AveragePool":
        counted = int(_get(node, "count_include_pad", 0))
        yield "pool padding", f"count_include_pad is {counted}", _with(node, count_include_pad=1 - counted)
    other = _with(node, storage_order=None, dilations=None, count_include_pad=None)
    other.op_type = "MaxPool" if node.op_type == "AveragePool" else "AveragePool"
    both: Tuple[Optional[int], ...] = (0, 1) if other.op_type == "AveragePool" else (None,)
    for counts in both:
        yield (
            "pool kind",
            f"it is {node.op_type} where the model has {other.op_type}",
            _with(other, count_include_pad=counts),
        )


def _pads(model: onnx.ModelProto, node: onnx.NodeProto) -> Changed:
    pads = list(_get(node, "pads", ()))
    if len(pads) != 4:
        return
    totals = [pads[0] + pads[2], pads[1] + pads[3]]
    kind = "pool padding" if "Pool" in node.op_type else "convolution padding"
    for top, left in itertools.product(*(range(total + 1) for total in totals)):
        other = [top, left, totals[0] - top, totals[1] - left]
        if other != pads and max(totals) <= 12:
            yield kind, f"its pads are {pads} where the model has {other}", _with(node, pads=other)


def _conv(model: onnx.ModelProto, node: onnx.NodeProto) -> Changed:
    yield from _pads(model, node)


def _epsilon(model: onnx.ModelProto, node: onnx.NodeProto) -> Changed:
    own = float(_get(node, "epsilon", 1e-5))
    for epsilon in EPSILONS:
        if abs(own - epsilon) > 1e-9:
            yield "epsilon", f"epsilon is {own:g} where the model has {epsilon:g}", _with(node, epsilon=epsilon)


def _axis(model: onnx.ModelProto, node: onnx.NodeProto) -> Changed:
    own = int(_get(node, "axis", -1))
    for axis in range(-1, 5):
        if axis != own:
            yield "axis", f"its axis is {own} where the model has {axis}", _with(node, axis=axis)


def _concat(model: onnx.ModelProto, node: onnx.NodeProto) -> Changed:
    if len(node.input) <= MOST_INPUTS:
        for order in itertools.permutations(range(len(node.input))):
            if list(order) != sorted(order):
                other = _with(node)
                other.input[:] = [node.input[k] for k in order]
                yield "order of a concatenation", "what it concatenates is in another order", other
    yield from _axis(model, node)


def _arithmetic(model: onnx.ModelProto, node: onnx.NodeProto) -> Changed:
    for kind in ("Add", "Sub", "Mul", "Div"):
        for swapped in (False, True):
            if (kind, swapped) != (node.op_type, False) and not (swapped and kind in ("Add", "Mul")):
                other = _with(node)
                other.op_type = kind
                other.input[:] = list(node.input)[::-1] if swapped else list(node.input)
                text = f"it is {node.op_type} where the model has {kind}{' of the exchanged operands' * swapped}"
                yield "arithmetic operator", text, other


def _hard(model: onnx.ModelProto, node: onnx.NodeProto) -> Changed:
    for alpha, beta in ((1 / 6, 0.5), (0.2, 0.5)):
        text = f"its slope is {float(_get(node, 'alpha', 0.2)):.4g} where the model has {alpha:.4g}"
        yield "hard sigmoid slope", text, _with(node, alpha=alpha, beta=beta)
    other = _with(node, alpha=None, beta=None)
    other.op_type = "Sigmoid"
    yield "other activation", "it is HardSigmoid where the model has Sigmoid", other


def _transpose(model: onnx.ModelProto, node: onnx.NodeProto) -> Changed:
    perm = list(_get(node, "perm", ()))
    for order in itertools.permutations(range(len(perm))) if len(perm) <= 5 else ():
        if list(order) != perm:
            yield (
                "axes exchanged",
                f"it moves axes by {perm} where the model has {list(order)}",
                _with(node, perm=list(order)),
            )


RULES: Dict[str, Any] = {
    "Resize": _resize,
    "MaxPool": _pool,
    "AveragePool": _pool,
    "Conv": _conv,
    "BatchNormalization": _epsilon,
    "InstanceNormalization": _epsilon,
    "LayerNormalization": _epsilon,
    "GroupNormalization": _epsilon,
    "Softmax": _axis,
    "LogSoftmax": _axis,
    "Concat": _concat,
    "Add": _arithmetic,
    "Sub": _arithmetic,
    "Mul": _arithmetic,
    "Div": _arithmetic,
    "HardSigmoid": _hard,
    "Transpose": _transpose,
}


def _weights(model: onnx.ModelProto) -> Iterator[Guess]:
    """The weights of one convolution in another order."""
    nodes = [node for node in model.graph.node if node.op_type == "Conv"]
    if len(nodes) != 1:
        return
    found = next((one for one in model.graph.initializer if one.name == nodes[0].input[1]), None)
    if found is None:
        return
    weight = numpy_helper.to_array(found)
    for kind, sentence, other in _orders(weight):
        if other.shape == weight.shape and not np.array_equal(other, weight):
            copy = onnx.ModelProto()
            copy.CopyFrom(model)
            target = next(one for one in copy.graph.initializer if one.name == found.name)
            target.CopyFrom(numpy_helper.from_array(np.ascontiguousarray(other), found.name))
            yield kind, sentence, bytes(copy.SerializeToString())


def _orders(weight: np.ndarray) -> List[Tuple[str, str, np.ndarray]]:
    found = [("input channels of weights", "the input channels of its weights are reversed", weight[:, ::-1])]
    if weight.ndim == 4:
        found += [
            ("kernel of weights", "height and width of its kernel are exchanged", weight.transpose(0, 1, 3, 2)),
            ("kernel of weights", "its kernel is turned by 180 degrees", weight[:, :, ::-1, ::-1]),
            ("kernel of weights", "its kernel is mirrored", weight[:, :, :, ::-1]),
            ("kernel of weights", "its kernel is upside down", weight[:, :, ::-1]),
        ]
        if weight.shape[0] == weight.shape[1]:
            found.append(
                ("weights transposed", "its input and output channels are exchanged", weight.transpose(1, 0, 2, 3))
            )
    half = weight.shape[1] // 2
    if half and weight.shape[1] % 2 == 0:
        halves = np.concatenate([weight[:, half:], weight[:, :half]], 1)
        found.append(("input channels of weights", "the two halves of its input channels are exchanged", halves))
    return found
