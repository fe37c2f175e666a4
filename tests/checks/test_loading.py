"""What is reported of a file that ONNX Runtime does not load."""

import onnx
import pytest
from onnx import TensorProto, helper

pytest.importorskip("torch", minversion="1.13")

from detparity.checks.foreign.open_file import ForeignSource, open_context
from detparity.core.clock import Clock
from detparity.engines.graph_reference import GraphReference


def test_an_operator_without_a_kernel_is_named_with_what_it_is_given(tmp_path):
    """torch's older exporter folds the grid of Deformable DETR to float64, for which ONNX Runtime has no GridSample."""
    path = tmp_path / "best.onnx"
    grid = helper.make_tensor("grid", TensorProto.DOUBLE, (1, 4, 4, 2), [0.0] * 32)
    graph = helper.make_graph(
        [helper.make_node("GridSample", ["images", "grid"], ["output"], name="sampled")],
        "g",
        [helper.make_tensor_value_info("images", TensorProto.FLOAT, (1, 3, 8, 8))],
        [helper.make_tensor_value_info("output", TensorProto.FLOAT, (1, 3, 4, 4))],
        [grid],
        value_info=[helper.make_tensor_value_info("grid", TensorProto.DOUBLE, (1, 4, 4, 2))],
    )
    onnx.save(helper.make_model(graph, opset_imports=[helper.make_opsetid("", 16)], ir_version=8), str(path))
    reference = GraphReference(path, "its own graph in float64")
    context = open_context(path, ForeignSource(lambda _: reference), None, Clock(), True)
    (finding,) = context.outcome("structure.load").findings
    assert "Could not find an implementation for GridSample" in finding.notes[0]
    assert finding.notes[1].startswith(
        "ONNX Runtime has GridSample for some types alone, and here it is given 'images' float32"
    )
    assert "'grid' float64" in finding.notes[1]
