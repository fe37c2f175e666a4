"""What an earlier run found holds for the same content alone."""

from __future__ import annotations

from types import SimpleNamespace

import numpy as np
import onnx
from onnx import helper, numpy_helper

from detparity.checks import earlier


def test_what_decides_outside_the_file_is_told_apart(tmp_path, monkeypatch):
    weight = numpy_helper.from_array(np.ones((4, 4), np.float32), "w")
    x, y = (helper.make_tensor_value_info(name, 1, [4, 4]) for name in "xy")
    graph = helper.make_graph([helper.make_node("MatMul", ["x", "w"], ["y"])], "g", [x], [y], [weight])
    path = tmp_path / "m.onnx"
    onnx.save(helper.make_model(graph), path, save_as_external_data=True, location="m.bin", size_threshold=0)
    before, first = path.read_bytes(), earlier.outside(path, "onnxruntime")

    (tmp_path / "m.bin").write_bytes(np.zeros((4, 4), np.float32).tobytes())
    assert path.read_bytes() == before and len(first) == 1 and earlier.outside(path, "onnxruntime") != first

    monkeypatch.setattr(earlier, "metadata", SimpleNamespace(version=lambda name: f"{name} 1.2"))
    assert earlier.outside(tmp_path / "m.xml", "openvino") == ["openvino 1.2"]
