"""An ONNX graph of 8 bits with its rounding removed: what is quantised stays the number it was, and constants are real numbers.

Pairs of QuantizeLinear and DequantizeLinear, QLinear operators, and products of integers behind DynamicQuantizeLinear are known.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any, Dict, List, Mapping, Sequence, Set, Tuple, Union

import numpy as np
import onnx
from onnx import numpy_helper

from detparity.artifacts.onnx_edit import prune
from detparity.artifacts.onnx_graph import all_nodes

# QLinear operators: what they compute, and the positions of (tensor, scale, zero point) of what they read and, of products and sums,
# of (scale, zero point) of what they make.
OF_INTEGERS: Mapping[str, Tuple[str, Sequence[int]]] = {
    "QLinearConv": ("Conv", (0, 3, 6)),
    "QLinearMatMul": ("MatMul", (0, 3, 6)),
    "QGemm": ("Gemm", (0, 3, 7)),
    "QLinearAdd": ("Add", (0, 3, 6)),
    "QLinearMul": ("Mul", (0, 3, 6)),
    "QLinearSigmoid": ("Sigmoid", (0, 3)),
    "QLinearLeakyRelu": ("LeakyRelu", (0, 3)),
    "QLinearSoftmax": ("Softmax", (0, 3)),
    "QLinearAveragePool": ("AveragePool", (0, 3)),
    "QLinearGlobalAveragePool": ("GlobalAveragePool", (0, 3)),
}
BIAS = {"QLinearConv": 8, "QGemm": 6}
PRODUCTS = {"ConvInteger": "Conv", "MatMulInteger": "MatMul"}
DYNAMIC = "DynamicQuantizeLinear"
KNOWN = frozenset((*OF_INTEGERS, *PRODUCTS, DYNAMIC, "QLinearConcat", "QuantizeLinear", "DequantizeLinear"))
# What gives the same on integers as on the numbers they are for.
PASSING = frozenset(
    (
        "Identity",
        "Reshape",
        "Transpose",
        "Slice",
        "Squeeze",
        "Unsqueeze",
        "MaxPool",
        "Resize",
        "Upsample",
        "Flatten",
        "Split",
    )
    + ("Concat", "Gather", "Expand", "DepthToSpace", "SpaceToDepth", "Shape")
)
LINEAR = frozenset(("Conv", "ConvTranspose", "Gemm", "MatMul", "Add", "BatchNormalization"))
LAST_AXIS = ("QLinearMatMul", "MatMulInteger", "QGemm")
OWN_ATTRIBUTES = ("channels_last", "opset")  # of QLinear operators, which those of ONNX have not
HALVES = (onnx.TensorProto.FLOAT16, onnx.TensorProto.BFLOAT16)
UNROUNDED = " unrounded"  # after the names of constants
SIX = 6.0  # where ReLU6 ends
End = Tuple[str, float]  # the operator that limits a tensor, and to what


class CannotUnround(Exception):
    """Why a graph cannot be had without its rounding, as a clause about it."""


@dataclass(frozen=True)
class Rounded:
    """A quantised constant of more than one number, or a bias. name: in the graph without rounding; step: the distance of two
    neighbouring values, as the tensor broadcasts it."""

    name: str
    value: np.ndarray
    step: np.ndarray

    @property
    def title(self) -> str:
        return self.name.partition(UNROUNDED)[0]


class Unrounded:
    """constants: those that were rounded, in the order of the graph. Raises CannotUnround."""

    def __init__(self, source: Union[Path, bytes]) -> None:
        self._model = onnx.load_from_string(source) if isinstance(source, bytes) else onnx.load(str(source))
        graph = self._model.graph
        self._constants: Dict[str, np.ndarray] = {}
        self._makers: Dict[str, str] = {name: node.op_type for node in graph.node for name in node.output}
        self.constants: List[Rounded] = []
        self._scales: Dict[str, np.ndarray] = {}  # of constants that are multiplied by their scale later
        self._real: Dict[str, np.ndarray] = {}
        self._eight: Set[str] = set()  # tensors that were integers
        self._nodes: List[Tuple[onnx.NodeProto, Sequence[End]]] = []
        self._read_constants()
        self._require_plain()
        for node in graph.node:
            self._take(node)
        if self._eight.intersection(value.name for value in graph.output):
            raise CannotUnround("gives integers")

    def model(self, given: Mapping[str, np.ndarray], cut: bool) -> bytes:
        """The graph without rounding, with these numbers for its rounded constants. cut: ranges that end where an activation does
        take its part, since a converter leaves out one that its range makes needless."""
        model = onnx.ModelProto()
        model.CopyFrom(self._model)
        del model.graph.node[:]
        for node, ends in self._nodes:
            model.graph.node.append(node)
            for limit in ends if cut else ():
                _limit(model.graph, *limit)
        for name, value in self._real.items():
            number = given.get(name, value)
            number = number / self._scales[name] if name in given and name in self._scales else number
            model.graph.initializer.append(numpy_helper.from_array(np.asarray(number, np.float32), name))
        prune(model)
        return bytes(model.SerializeToString())

    def _read_constants(self) -> None:
        graph = self._model.graph
        self._constants.update((one.name, numpy_helper.to_array(one)) for one in graph.initializer)
        for node in graph.node:
            value = next((one.t for one in node.attribute if node.op_type == "Constant" and one.name == "value"), None)
            if value is not None:
                self._constants[node.output[0]] = numpy_helper.to_array(value)

    def _require_plain(self) -> None:
        graph = self._model.graph
        inner = [node for node in all_nodes(graph.node) if node.op_type in KNOWN]
        if len(inner) > sum(node.op_type in KNOWN for node in graph.node):
            raise CannotUnround("quantises in the body of a control flow")
        if any(one.data_type in HALVES for one in graph.initializer):
            raise CannotUnround("holds constants of half precision as well")
        if any(one.name == "to" and one.i in HALVES for node in graph.node for one in node.attribute):
            raise CannotUnround("rounds to half precision as well")

    def _take(self, node: onnx.NodeProto) -> None:
        op = node.op_type
        if op == "QuantizeLinear":
            self._quantised(node)
        elif op == "DequantizeLinear":
            axis = next((one.i for one in node.attribute if one.name == "axis"), 1)
            real = self._number([*node.input, ""][:3], axis)
            self._add("Identity", [real], node.output[0])
        elif op in OF_INTEGERS:
            self._of_integers(node)
        elif op == "QLinearConcat":
            read = [self._number(node.input[k : k + 3], 0) for k in range(2, len(node.input) - 2, 3)]
            self._add("Concat", read, node.output[0], node.attribute)
            self._eight.add(node.output[0])
        elif op == DYNAMIC:
            self._add("Identity", [node.input[0]], node.output[0])
            self._real[node.output[1]] = np.float32(1)
            self._eight.add(node.output[0])
        elif op in PRODUCTS:
            self._product(node)
        else:
            if self._eight.intersection(node.input):
                if op not in PASSING:
                    raise CannotUnround(f"computes {op} on integers")
                self._eight.update(node.output if op != "Shape" else ())
            self._nodes.append((node, ()))

    def _add(self, op: str, inputs: Sequence[str], output: str, attributes: Any = (), ends: Sequence[End] = ()) -> None:
        node = onnx.helper.make_node(op, list(inputs), [output])
        node.attribute.extend(one for one in attributes if one.name not in OWN_ATTRIBUTES)
        self._nodes.append((node, ends))

    def _quantised(self, node: onnx.NodeProto) -> None:
        scale, zero = (list(node.input) + [""])[1:3]
        if scale not in self._constants:
            raise CannotUnround("quantises by scales that it computes")
        linear = self._makers.get(node.input[0]) in LINEAR
        self._add("Identity", [node.input[0]], node.output[0], ends=self._ends(scale, zero) if linear else ())
        self._eight.add(node.output[0])

    def _ends(self, scale: str, zero: str) -> Sequence[End]:
        """Where the range of a tensor ends as an activation does: at 0, and at 6."""
        point, step = self._constants.get(zero, np.zeros((), np.uint8)), self._constants.get(scale)
        if step is None or step.size != 1 or point.dtype.kind not in "iu":
            return ()
        info = np.iinfo(point.dtype)
        first, size = int(point.ravel()[0]), float(step.ravel()[0])
        low, high = size * (info.min - first), size * (info.max - first)
        if high == 0:
            return (("Min", 0.0),)
        if low != 0:
            return ()
        return (("Max", 0.0), ("Min", SIX)) if abs(high - SIX) <= size else (("Max", 0.0),)

    def _of_integers(self, node: onnx.NodeProto) -> None:
        op, (*read, made) = node.op_type, OF_INTEGERS[node.op_type][1]
        names = list(node.input) + [""] * 4
        across = any(one.name == "transB" and one.i for one in node.attribute)
        axis = -1 if op in LAST_AXIS and not across else 0
        inputs = [self._number(names[k : k + 3], axis) for k in read]
        bias = names[BIAS[op]] if op in BIAS else ""
        if bias:
            inputs.append(self._bias(bias, names[1], names[4]))
        plain = OF_INTEGERS[op][0]
        ends = self._ends(names[made], names[made + 1]) if plain in LINEAR else ()
        self._add(plain, inputs, node.output[0], node.attribute, ends)
        self._eight.add(node.output[0])

    def _bias(self, name: str, features: str, weights: str) -> str:
        """A bias of integers, whose scale is that of the features times that of the weights."""
        scales = [self._constants.get(one) for one in (features, weights)]
        value = self._constants.get(name)
        if value is None or scales[0] is None or scales[1] is None:
            raise CannotUnround("adds a bias that it computes")
        step = scales[0].astype(np.float64).ravel() * scales[1].astype(np.float64).ravel()
        return self._constant(name, value.astype(np.float64) * step, step, value.dtype)

    def _product(self, node: onnx.NodeProto) -> None:
        """A product of integers, which is multiplied by both scales later: that of its weight is divided out of what is given."""
        names = list(node.input) + [""] * 2
        weight = self._constants.get(names[1])
        stem = names[1][: -len("_quantized")] if names[1].endswith("_quantized") else names[1]
        scale = self._constants.get(f"{stem}_scale")
        if weight is None or scale is None:
            raise CannotUnround("multiplies by integers whose scale is not known")
        axis = -1 if node.op_type in LAST_AXIS else 0
        name = self._number([names[1], f"{stem}_scale", names[3]], axis)
        scale = _along(scale, weight, axis)
        self._scales[name] = scale
        self._real[name] = self._real[name] / scale
        self._add(PRODUCTS[node.op_type], [names[0], name], node.output[0], node.attribute)

    def _number(self, names: Sequence[str], axis: int) -> str:
        """The name of the real numbers of a quantised tensor. names: of it, of its scale and of its zero point."""
        name, scale, zero = names
        value, step = self._constants.get(name), self._constants.get(scale)
        if value is None or value.dtype.kind not in "iu":
            return name
        if step is None:
            raise CannotUnround("holds constants by scales that it computes")
        point = self._constants.get(zero, np.zeros((), value.dtype))
        step = _along(step, value, axis)
        real = (value.astype(np.float64) - _along(point, value, axis)) * step
        return self._constant(name, real, step, value.dtype)

    def _constant(self, name: str, real: np.ndarray, step: np.ndarray, kind: np.dtype) -> str:
        name += UNROUNDED
        while name in self._real:
            name += "'"
        self._real[name] = real
        # A bias of one channel is rounded as well; other single numbers are the end of a range, and exact.
        if real.size > 1 or kind == np.int32:
            self.constants.append(Rounded(name, real, np.abs(step)))
        return name


def _limit(graph: onnx.GraphProto, op: str, value: float) -> None:
    """Limit what the last node makes."""
    node, limit = graph.node[-1], f"{graph.node[-1].output[0]} {op} {value:g}"
    made, inner = node.output[0], f"{limit} of"
    node.output[0] = inner
    graph.initializer.append(numpy_helper.from_array(np.array(value, np.float32), limit))
    graph.node.append(onnx.helper.make_node(op, [inner, limit], [made]))


def _along(one: np.ndarray, tensor: np.ndarray, axis: int) -> np.ndarray:
    """Numbers of a tensor, one or one along an axis of it, as it broadcasts them."""
    if one.size == 1:
        return one.astype(np.float64).reshape(())
    if not tensor.ndim or one.size != tensor.shape[axis % tensor.ndim]:
        raise CannotUnround("has scales of another number than channels")
    return one.astype(np.float64).reshape([-1 if k == axis % tensor.ndim else 1 for k in range(tensor.ndim)])
