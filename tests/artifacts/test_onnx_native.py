"""What onnx's checker and inference say does not depend on how they are given a file."""

import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper, numpy_helper

from detparity.artifacts import onnx_native


def _model(weight, shape=(1, 3, 16, 16)):
    nodes = [
        helper.make_node("Conv", ["x", "w"], ["c"]),
        helper.make_node("Reshape", ["c", "to"], ["r"]),
        helper.make_node("MatMul", ["r", "listed"], ["y"]),
    ]
    constants = [
        numpy_helper.from_array(weight, "w"),
        numpy_helper.from_array(np.array([1, 400, -1], np.int64), "to"),
        numpy_helper.from_array(np.zeros((196, 100), np.float32), "listed"),
    ]
    inputs = [helper.make_tensor_value_info("x", TensorProto.FLOAT, shape)]
    inputs.append(helper.make_tensor_value_info("listed", TensorProto.FLOAT, (196, 100)))  # as before IR version 4
    outputs = [helper.make_tensor_value_info("y", TensorProto.FLOAT, (1, 400, 100))]
    return helper.make_model(
        helper.make_graph(nodes, "g", inputs, outputs, constants), opset_imports=[helper.make_opsetid("", 12)]
    )


def test_large_constants_are_inferred_from_by_their_shapes(tmp_path, monkeypatch):
    onnx.save(_model(np.ones((400, 3, 3, 3), np.float32)), str(tmp_path / "m.onnx"))
    found = onnx.GraphProto.FromString(onnx_native.inferred(tmp_path / "m.onnx"))
    monkeypatch.setattr(onnx_native, "SMALL", 10**9)
    complete = onnx.GraphProto.FromString(onnx_native.inferred(tmp_path / "m.onnx"))

    def shapes(graph):
        return {value.name: [one.dim_value for one in value.type.tensor_type.shape.dim] for value in graph.value_info}

    assert shapes(found) == shapes(complete) and shapes(found)["r"] == [1, 400, 196]
    assert found.output == complete.output


@pytest.mark.parametrize("beside", [False, True])
def test_the_checker_reads_data_beside_a_file(beside, tmp_path):
    path = tmp_path / "m.onnx"
    onnx.save_model(
        _model(np.ones((400, 3, 3, 3), np.float32)),
        str(path),
        save_as_external_data=beside,
        location="m.data",
        size_threshold=1000,
    )
    assert onnx_native.problem(path) is None
    if beside:
        (tmp_path / "m.data").unlink()
        assert "m.data" in str(onnx_native.problem(path))


def test_the_checker_says_what_is_wrong(tmp_path):
    model = _model(np.ones((400, 4, 3, 3), np.float32))
    model.graph.node[1].op_type = "Reshapes"
    onnx.save(model, str(tmp_path / "m.onnx"))
    assert "Reshapes" in str(onnx_native.problem(tmp_path / "m.onnx"))
