"""The precision of an exported file, from its weights, its inputs and outputs, its nodes of quantisation and its casts."""

from __future__ import annotations

from dataclasses import replace
from typing import Dict, List, Tuple

from detparity.artifacts.onnx_graph import Graph, Node
from detparity.artifacts.runtime_file import RuntimeFile
from detparity.artifacts.torchscript_facts import ScriptFile
from detparity.core.precision import FLOAT32, HALVES, INT8, Precision, of_types

QUANTISING = ("QuantizeLinear", "DequantizeLinear", "DynamicQuantizeLinear", "ConvInteger", "MatMulInteger")
FEATURES = ("QuantizeLinear", "DynamicQuantizeLinear", "ConvInteger")
LOWER = {1: "float32", 10: "float16", 11: "float64", 16: "bfloat16"}
# Positions of what is multiplied with the image's features.
WEIGHTS = {"Conv": 1, "FusedConv": 1, "ConvTranspose": 1, "MatMul": 1, "Gemm": 1, "ConvInteger": 1, "MatMulInteger": 1}
WEIGHTS.update({"QLinearConv": 3, "QLinearMatMul": 3, "QGemm": 3})
PASSING = ("Identity", "Cast", "Transpose", "Reshape", "DequantizeLinear")


def of_graph(graph: Graph) -> Precision:
    """The precision of an ONNX graph."""
    producers = graph.producers()
    found: List[Tuple[str, int]] = []
    operators: Dict[str, int] = {}
    for node in graph.walk():
        if node.op in QUANTISING or node.op.startswith("QLinear"):
            operators[node.op] = operators.get(node.op, 0) + 1
        if node.op == "Cast" and node.get("to") in (10, 16):
            name = f"Cast to {LOWER[node.get('to')]}"
            operators[name] = operators.get(name, 0) + 1
        found += _weight(graph, producers, node)
    types = of_types(found, any(node.op in FEATURES or node.op.startswith("QLinear") for node in graph.walk()))
    given = tuple((value.name, value.dtype) for value in graph.inputs if value.name not in graph.initializers)
    return replace(
        types, inputs=given, outputs=tuple((one.name, one.dtype) for one in graph.outputs), operators=operators
    )


def _weight(graph: Graph, producers: Dict[str, Node], node: Node) -> List[Tuple[str, int]]:
    """Type and count of the numbers of a node's constant weight, behind what passes it on."""
    position = WEIGHTS.get(node.op)
    if position is None or position >= len(node.inputs):
        return []
    name, seen = node.inputs[position], set()
    while name not in graph.constants and name in producers and name not in seen and producers[name].op in PASSING:
        seen.add(name)
        name = producers[name].first
    value = graph.constants.get(name)
    return [] if value is None or value.ndim < 2 else [(str(value.dtype), int(value.size))]


def of_script(file: ScriptFile) -> Precision:
    """The precision of a TorchScript file: the types of its parameters of more than one axis, or of its constants where it was
    frozen."""
    state = [(file.types.get(name, "float32"), int(one.size)) for name, one in file.state.items() if one.ndim > 1]
    frozen = [(one.kind or str(one.value.dtype), int(one.value.size)) for one in file.constants if one.value.ndim > 1]
    found = of_types([pair for pair in state or frozen if pair[0].startswith(("float", "bfloat", "int8", "uint8"))])
    casts = {"quantised operators": sum(count for name, count in file.ops.items() if name.startswith("quantized::"))}
    return replace(found, operators={name: count for name, count in casts.items() if count})


def of_runtime(file: RuntimeFile) -> Precision:
    """The precision of another runtime's own file, as its engine reads it."""
    name = INT8 if file.quantised else file.weights if file.weights in HALVES else FLOAT32
    given, made = (tuple((one.name, one.dtype) for one in ports) for ports in (file.inputs, file.outputs))
    return Precision(name, {}, given, made)
