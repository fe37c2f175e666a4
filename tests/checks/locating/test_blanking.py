"""Parts whose weights cannot be cut are made small by zeros, and still show what they showed."""

import numpy as np
import pytest
from onnx import TensorProto, helper, numpy_helper

from detparity.artifacts import onnx_fed
from detparity.checks.locating import bundle, reduction

RNG = np.random.default_rng(0)


def _numbers(*shape):
    return RNG.normal(size=shape).astype(np.float32)


def _part(nodes, constants, given, fault):
    """A part and what is wrong in it: `fault` changes one constant of the model that the expected numbers come from."""

    def built(values):
        inputs = [helper.make_tensor_value_info(name, TensorProto.FLOAT, one.shape) for name, one in given.items()]
        outputs = [helper.make_tensor_value_info("y", TensorProto.FLOAT, None)]
        tensors = [numpy_helper.from_array(one, name) for name, one in values.items()]
        graph = helper.make_graph(nodes, "g", inputs, outputs, tensors)
        return helper.make_model(graph, opset_imports=[helper.make_opsetid("", 13)], ir_version=8).SerializeToString()

    wrong = {name: one.copy() for name, one in constants.items()}
    fault(wrong)
    inputs = tuple(given.values())
    expected, model = bundle.run(built(constants), inputs), built(wrong)
    found = bundle.run(model, inputs)
    return bundle.Part(model, inputs, found, expected, np.ones(found.shape, bool), 1e-4)


def _squeeze():
    """Squeeze and excitation: two products at one place, one behind the other, and a map that they scale."""
    nodes = [
        helper.make_node("Conv", ["x", "w1", "b1"], ["h"]),
        helper.make_node("Relu", ["h"], ["r"]),
        helper.make_node("Conv", ["r", "w2"], ["z"]),
        helper.make_node("Mul", ["z", "map"], ["y"]),
    ]
    constants = {"w1": _numbers(160, 640, 1, 1), "b1": _numbers(160), "w2": _numbers(640, 160, 1, 1)}
    given = {"x": _numbers(1, 640, 1, 1), "map": _numbers(1, 640, 8, 8)}
    return _part(nodes, constants, given, lambda wrong: wrong["w1"].__setitem__(slice(9), wrong["w1"][:9] * 1.1))


def _joined():
    """One level of a head, laid out in rows among those of others."""
    nodes = [
        helper.make_node("Conv", ["x", "w"], ["c"]),
        helper.make_node("Reshape", ["c", "rows"], ["r"]),
        helper.make_node("Concat", ["others", "r"], ["y"], axis=1),
    ]
    constants = {"w": _numbers(500, 400, 1, 1), "rows": np.array([1, 500, 100], np.int64)}
    given = {"x": _numbers(1, 400, 10, 10), "others": _numbers(1, 2000, 100)}
    return _part(nodes, constants, given, lambda wrong: wrong["w"].__setitem__(7, wrong["w"][7] * 1.1))


def _rows():
    """A product of rows whose shape is a constant, after which nothing can be cut."""
    nodes = [
        helper.make_node("MatMul", ["x", "w"], ["m"]),
        helper.make_node("Add", ["m", "b"], ["a"]),
        helper.make_node("Reshape", ["a", "shape"], ["y"]),
    ]
    constants = {"w": _numbers(256, 1024), "b": _numbers(1024), "shape": np.array([1, 300, 1024], np.int64)}
    given = {"x": _numbers(300, 256)}
    return _part(nodes, constants, given, lambda wrong: wrong["b"].__setitem__(5, wrong["b"][5] + 1.0))


@pytest.mark.parametrize("make", [_squeeze, _joined, _rows])
def test_a_part_that_cannot_be_cut_fits_into_a_bundle(make, tmp_path):
    part = make()
    assert part.shows and part.size > 2 * bundle.LARGEST
    found = reduction.smaller(part)
    assert found.shows and found.error > 0.3 * part.error
    written = bundle.write(tmp_path / "b", found, {"module": "m", "node": "n", "file": "f", "case": "c"})
    assert written <= bundle.LARGEST
    error, _ = bundle.replayed(tmp_path / "b")
    assert error == pytest.approx(found.error, rel=1e-3)


def test_what_is_right_is_not_judged_by_what_zeros_give():
    """The judged numbers of a part with zeros are those that it gave before."""
    part = _joined()
    found = reduction.smaller(part)
    assert found.judged.any() and not found.judged.all()
    same = np.abs(found.found - part.found)[found.judged]
    assert same.max() <= 2 * part.allowed
    assert np.array_equal(found.expected[found.judged], part.expected[found.judged])


def test_constants_of_nodes_are_constants_of_the_graph():
    weight = helper.make_node("Constant", [], ["w"], value=numpy_helper.from_array(_numbers(200, 300, 1, 1)))
    graph = helper.make_graph(
        [weight, helper.make_node("Conv", ["x", "w"], ["y"])],
        "g",
        [helper.make_tensor_value_info("x", TensorProto.FLOAT, (1, 300, 4, 4))],
        [helper.make_tensor_value_info("y", TensorProto.FLOAT, None)],
    )
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 13)], ir_version=8).SerializeToString()
    assert onnx_fed.one_channel(model, (0, 3, 0, 0)) is None
    bare = onnx_fed.without_shapes(model)
    assert onnx_fed.one_channel(bare, (0, 3, 0, 0)) is not None
    x = _numbers(1, 300, 4, 4)
    np.testing.assert_array_equal(bundle.run(bare, [x]), bundle.run(model, [x]))
