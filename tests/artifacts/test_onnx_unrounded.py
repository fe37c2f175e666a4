"""Graphs of 8 bits without their rounding: what is left of ranges and of constants."""

from __future__ import annotations

import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper, numpy_helper

from detparity.artifacts import onnx_graph
from detparity.artifacts.onnx_unrounded import CannotUnround, Unrounded
from detparity.artifacts.quantised import shared_biases


def _model(nodes, constants, output="y", kind=TensorProto.FLOAT):
    graph = helper.make_graph(
        [helper.make_node(op, inputs, outputs, name=outputs[0], **more) for op, inputs, outputs, more in nodes],
        "graph",
        [helper.make_tensor_value_info("x", TensorProto.FLOAT, [1, 1, 2, 2])],
        [helper.make_tensor_value_info(output, kind, None)],
        [numpy_helper.from_array(np.asarray(value), name) for name, value in constants.items()],
    )
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 13)])
    model.ir_version = 8
    return model.SerializeToString()


def _quantised(scale, zero, op="Conv"):
    """A layer in 8 bits, whose range is all that is left of an activation."""
    nodes = [
        ("DequantizeLinear", ["w8", "ws", "wz"], ["w"], {"axis": 0}),
        (op, ["x", "w"] if op == "Conv" else ["x"], ["h"], {}),
        ("QuantizeLinear", ["h", "s", "z"], ["h8"], {}),
        ("DequantizeLinear", ["h8", "s", "z"], ["y"], {}),
    ]
    weight = np.array([[[[3]]], [[[-5]]]], np.int8)
    scales = {"ws": np.float32([0.5, 0.25]), "wz": np.int8([0, 0]), "s": np.float32(scale), "z": np.uint8(zero)}
    return _model(nodes, {"w8": weight, **scales})


def _operators(content):
    return [node.op_type for node in onnx.load_from_string(content).graph.node]


@pytest.mark.parametrize(
    "scale, zero, op, limits",
    [
        (0.1, 0, "Conv", ["Max"]),
        (6 / 255, 0, "Conv", ["Max", "Min"]),
        (0.1, 255, "Conv", ["Min"]),
        (0.1, 7, "Conv", []),
        (0.1, 0, "Sigmoid", []),
    ],
)
def test_a_range_that_ends_as_an_activation_does_takes_its_part(scale, zero, op, limits):
    plain = Unrounded(_quantised(scale, zero, op))

    assert [op for op in _operators(plain.model({}, True)) if op in ("Max", "Min")] == limits
    assert "Max" not in _operators(plain.model({}, False)) and "Min" not in _operators(plain.model({}, False))


def test_constants_are_numbers_and_are_replaced():
    plain = Unrounded(_quantised(0.1, 7))
    (one,) = plain.constants
    assert (one.title, one.value.ravel().tolist(), one.step.ravel().tolist()) == ("w8", [1.5, -1.25], [0.5, 0.25])

    made = onnx.load_from_string(plain.model({one.name: one.value + 0.125}, True))
    stored = {tensor.name: numpy_helper.to_array(tensor) for tensor in made.graph.initializer}
    assert stored[one.name].ravel().tolist() == [1.625, -1.125] and stored[one.name].dtype == np.float32


def test_a_bias_of_one_channel_is_a_rounded_constant_and_other_single_numbers_are_none():
    nodes = [
        ("DequantizeLinear", ["b32", "bs"], ["b"], {}),
        ("DequantizeLinear", ["two8", "ts", "tz"], ["two"], {}),
        ("Conv", ["x", "w", "b"], ["h"], {}),
        ("Mul", ["h", "two"], ["y"], {}),
    ]
    scales = {"bs": np.float32([2.0**-14]), "ts": np.float32(2 / 255), "tz": np.uint8(0)}
    stored = {"b32": np.int32([-75000]), "two8": np.uint8(255), "w": np.ones((1, 1, 1, 1), np.float32)}
    plain = Unrounded(_model(nodes, {**stored, **scales}))

    (one,) = plain.constants
    assert (one.title, one.value.tolist(), one.step.tolist()) == ("b32", [-75000 / 2**14], 2.0**-14)


@pytest.mark.parametrize(
    "nodes, output, kind, why",
    [
        ([("QuantizeLinear", ["x", "s", "z"], ["y"], {})], "y", TensorProto.UINT8, "gives integers"),
        (
            [("QuantizeLinear", ["x", "s", "z"], ["q"], {}), ("Max", ["q", "z"], ["y"], {})],
            *("y", TensorProto.UINT8, "computes Max on integers"),
        ),
    ],
)
def test_what_integers_compute_otherwise_is_refused(nodes, output, kind, why):
    with pytest.raises(CannotUnround, match=why):
        Unrounded(_model(nodes, {"s": np.float32(0.1), "z": np.uint8(7)}, output, kind))


def test_a_bias_that_two_layers_read_by_other_scales_is_found(tmp_path):
    layer = ["zero", "w", "ws", "zero", "s", "zero", "bias"]
    nodes = [
        ("QuantizeLinear", ["x", "s", "zero"], ["q"], {}),
        ("QLinearConv", ["q", "s", *layer], ["a"], {}),
        ("QLinearConv", ["a", "s2", *layer], ["b"], {}),
        ("DequantizeLinear", ["b", "s", "zero"], ["y"], {}),
    ]
    constants = {"s": np.float32(0.1), "s2": np.float32(0.2), "ws": np.float32(0.5), "zero": np.uint8(0)}
    path = tmp_path / "x.onnx"
    path.write_bytes(_model(nodes, {**constants, "w": np.ones((1, 1, 1, 1), np.uint8), "bias": np.int32([3])}))

    ((first, other, ratio),) = shared_biases(onnx_graph.read(path).graph)
    assert (first.title, other.title) == ("a", "b") and ratio == pytest.approx(2)
