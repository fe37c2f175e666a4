"""The files beside an ONNX file: as onnx writes them, and of bytes that are no model."""

from __future__ import annotations

import random

import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper, numpy_helper

from detparity.artifacts.external_data import beside


def _model():
    weights = [numpy_helper.from_array(np.full((64, 4), index, np.float32), f"w{index}") for index in range(3)]
    graph = helper.make_graph(
        [helper.make_node("MatMul", ["x", "w0"], ["y"], name="n")],
        "g",
        [helper.make_tensor_value_info("x", TensorProto.FLOAT, [1, 64])],
        [helper.make_tensor_value_info("y", TensorProto.FLOAT, [1, 4])],
        weights,
    )
    return helper.make_model(graph)


@pytest.mark.parametrize("one_file", [True, False])
def test_files_of_tensors_are_found(one_file, tmp_path):
    onnx.save(_model(), str(tmp_path / "inside.onnx"))
    path = tmp_path / "best.onnx"
    location = "weights.bin" if one_file else None
    onnx.save(
        _model(),
        str(path),
        save_as_external_data=True,
        all_tensors_to_one_file=one_file,
        location=location,
        size_threshold=0,
    )
    expected = ["weights.bin"] if one_file else ["w0", "w1", "w2"]

    assert [one.name for one in beside(path)] == expected
    assert beside(tmp_path / "inside.onnx") == []


def test_what_is_no_model_has_none(tmp_path):
    path = tmp_path / "best.onnx"
    onnx.save(_model(), str(path), save_as_external_data=True, location="weights.bin", size_threshold=0)
    content = path.read_bytes()
    draws = random.Random(0)
    for _ in range(200):
        changed = bytearray(content[: draws.randrange(len(content))])
        for _ in range(draws.randrange(4)):
            if changed:
                changed[draws.randrange(len(changed))] = draws.randrange(256)
        path.write_bytes(bytes(changed))
        assert isinstance(beside(path), list)
    path.write_bytes(b"\xff" * 64)
    assert beside(path) == []
    assert beside(tmp_path / "missing.onnx") == []
