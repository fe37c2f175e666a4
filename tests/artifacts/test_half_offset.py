"""A class offset that is added in half precision is found in the graph, by its constant."""

from __future__ import annotations

import types

import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper, numpy_helper

from detparity.artifacts.onnx_graph import read
from detparity.artifacts.onnx_nms import half_offset
from detparity.checks.foreign import suppression


def _file(path, offset, half):
    """Boxes and scores to a suppression; the offset is a multiple of the class's index."""
    constants = {"offset": np.float32(offset), "axes": np.array([0], np.int64), "cap": np.array([9], np.int64)}
    nodes = [
        helper.make_node("ArgMax", ["scores"], ["index"], axis=1, keepdims=1),
        helper.make_node("Cast", ["index"], ["number"], to=TensorProto.FLOAT),
        helper.make_node("Mul", ["number", "offset"], ["moved"]),
        helper.make_node("Add", ["boxes", "moved"], ["apart"]),
        helper.make_node("Unsqueeze", ["apart", "axes"], ["rows"]),
        helper.make_node("Cast", ["rows"], ["low"], to=TensorProto.FLOAT16 if half else TensorProto.FLOAT),
        helper.make_node("Cast", ["low"], ["high"], to=TensorProto.FLOAT),
        helper.make_node("NonMaxSuppression", ["high", "best", "cap"], ["output"]),
    ]
    shapes = {"boxes": ["n", 4], "scores": ["n", 80], "best": [1, 1, "n"]}
    graph = helper.make_graph(
        nodes,
        "offsets",
        [helper.make_tensor_value_info(name, TensorProto.FLOAT, shape) for name, shape in shapes.items()],
        [helper.make_tensor_value_info("output", TensorProto.INT64, ["k", 3])],
        [numpy_helper.from_array(np.asarray(value), name) for name, value in constants.items()],
    )
    onnx.save(helper.make_model(graph, opset_imports=[helper.make_opsetid("", 13)]), str(path))
    return read(path)


@pytest.mark.parametrize(
    "offset, names, size, says",
    [
        (4096, 80, 640, "that of the last class is 323584 px, where float16 has steps of 256 px"),
        (0.0125, 80, 640, "that of the last class is 50560 px, where float16 has steps of 32 px"),
        (0.2, 5, 160, None),  # boxes in parts of the image: half a pixel
    ],
)
def test_an_offset_in_half_precision_is_found(offset, names, size, says, tmp_path):
    file = _file(tmp_path / "half.onnx", offset, half=True)
    facts = types.SimpleNamespace(names=("name",) * names, anchors=())
    context = types.SimpleNamespace(
        onnx=file,
        oracle=types.SimpleNamespace(reference=types.SimpleNamespace(facts=facts)),
        contract=types.SimpleNamespace(size=(size, size)),
        sizes=lambda: [],
    )
    found = half_offset(file.graph)

    assert found is not None and found.kind == "float16" and found.pixels == pytest.approx(offset)
    messages = [finding.message for finding in suppression.class_offset(context)]
    assert len(messages) == (says is not None) and all(says in message for message in messages)


def test_an_offset_in_float32_is_none(tmp_path):
    assert half_offset(_file(tmp_path / "float.onnx", 4096, half=False).graph) is None
