"""A suppression inside another file's graph, whose IoU threshold the graph works out, is shown, forced and certified."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import onnx
import onnxruntime
import pytest

pytest.importorskip("torch", minversion="1.13")  # float64 of a graph

from onnx import TensorProto, helper, numpy_helper

from detparity.artifacts.onnx_decisions import exposed, plainly, selections
from detparity.artifacts.onnx_graph import read
from detparity.core.decisions import CUT
from detparity.engines.graph_reference import GraphReference
from detparity.engines.remote import client
from detparity.models.reference import EXACT
from detparity.oracle.suppressed import breach

IOU, COUNT = 0.5, 12
IMAGES = np.random.default_rng(0).random((1, 3, 8, 8), dtype=np.float32)


@pytest.fixture(scope="module")
def path(tmp_path_factory):
    """Pairs of boxes that overlap by 0.6; what the suppression retains is gathered, and read by a product."""
    low = np.repeat(np.arange(COUNT // 2) * 40.0, 2)[:, None] + [0.0, 0.0]
    low[1::2, 0] += 2.5
    boxes = np.concatenate([low, low + 10], 1).astype(np.float32)[None]
    scores = np.linspace(0.9, 0.3, COUNT, dtype=np.float32)[None, None]
    tensors = {
        "drawn": boxes, "stated": scores, "most": np.array([100], np.int64), "iou": np.array([IOU], np.float32),
        "least": np.array([0.0], np.float32), "zero": np.zeros(1, np.float32), "two": np.array([2], np.int64),
        "weight": np.eye(4, 3, dtype=np.float32), "flat": np.array([-1, 4], np.int64), "one": np.array([-1], np.int64),
    }  # fmt: skip
    nodes = [
        helper.make_node("ReduceMean", ["images"], ["mean"], keepdims=0),
        helper.make_node("Mul", ["mean", "zero"], ["nothing"]),
        helper.make_node("Add", ["drawn", "nothing"], ["boxes"]),
        helper.make_node("Add", ["stated", "nothing"], ["scores"]),
        helper.make_node("Add", ["iou", "nothing"], ["threshold"]),
        helper.make_node("NonMaxSuppression", ["boxes", "scores", "most", "threshold", "least"], ["held"], "nms"),
        helper.make_node("Gather", ["held", "two"], ["wide"], axis=1),
        helper.make_node("Reshape", ["wide", "one"], ["index"]),
        helper.make_node("Reshape", ["boxes", "flat"], ["rows"]),
        helper.make_node("Gather", ["rows", "index"], ["chosen"], axis=0),
        helper.make_node("MatMul", ["chosen", "weight"], ["output"]),
    ]
    graph = helper.make_graph(
        nodes,
        "suppressing",
        [helper.make_tensor_value_info("images", TensorProto.FLOAT, IMAGES.shape)],
        [helper.make_tensor_value_info("output", TensorProto.FLOAT, ["n", 3])],
        [numpy_helper.from_array(value, name) for name, value in tensors.items()],
    )
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 13)], ir_version=8)
    found = tmp_path_factory.mktemp("suppression") / "file.onnx"
    onnx.save(model, str(found))
    return found


@pytest.fixture(scope="module")
def choice(path):
    """What the file itself chooses."""
    graph = read(path, client()).graph
    (node,) = selections(graph)
    names = node.tensors(graph.constants)
    shown = onnxruntime.InferenceSession(exposed(path, [node], graph.constants), providers=["CPUExecutionProvider"])
    values = dict(zip(names, shown.run(names, {"images": IMAGES})))
    assert node.choice({name: values[name] for name in values if name != "threshold"}, graph.constants) is None
    return node.choice(values, graph.constants)


def test_its_threshold_is_shown_and_what_it_retains_is_legal(path, choice):
    outputs, forced = GraphReference(path, "itself").run_forced(EXACT, IMAGES, [choice])

    assert choice.limits[0] == IOU and len(outputs["output"]) == COUNT // 2
    assert [(one.same, one.threshold) for one in forced] == [(True, IOU)]
    assert breach(choice, forced[0], 1e-6, 1e-6) is None


@pytest.mark.parametrize(("change", "what"), [("both", "overlap"), ("left out", "not suppressed")])
def test_what_is_no_suppression_is_followed_and_refused(path, choice, change, what):
    more = np.array([[0, 0, 1]], choice.indices.dtype)
    indices = np.concatenate([choice.indices, more]) if change == "both" else choice.indices[1:]
    other = replace(choice, indices=indices)

    outputs, forced = GraphReference(path, "itself").run_forced(EXACT, IMAGES, [other])

    assert len(outputs["output"]) == len(indices) and [one.same for one in forced] == [False]
    assert breach(other, forced[0], 1e-6, 1e-6).what == what


def test_a_suppression_in_a_body_of_an_if_is_shown_without_changing_what_the_file_gives(path, choice, tmp_path):
    """As torchvision's exports have it: nothing where there are no candidates, else the suppression, with its own threshold."""
    model = onnx.load(str(path))
    (at,) = [k for k, node in enumerate(model.graph.node) if node.op_type == "NonMaxSuppression"]
    inner = onnx.NodeProto()
    inner.CopyFrom(model.graph.node[at])
    inner.input[:] = ["inner boxes", "inner scores", "most", "inner iou", "least"]
    inner.output[:] = ["inner held"]
    made = [helper.make_node("Identity", [name], [f"inner {name}"]) for name in ("boxes", "scores")]
    made.append(helper.make_node("Constant", [], ["inner iou"], value=numpy_helper.from_array(np.float32([IOU]))))
    held = [helper.make_tensor_value_info(name, TensorProto.INT64, None) for name in ("inner held", "nothing held")]
    empty = helper.make_node(
        "Constant", [], ["nothing held"], value=helper.make_tensor("", TensorProto.INT64, [0, 3], [])
    )
    bodies = {
        "else_branch": helper.make_graph([*made, inner], "some", [], held[:1]),
        "then_branch": helper.make_graph([empty], "none", [], held[1:]),
    }
    model.graph.initializer.append(numpy_helper.from_array(np.array(False), "never"))
    model.graph.node[at].CopyFrom(helper.make_node("If", ["never"], ["held"], "if", **bodies))
    file = tmp_path / "inside.onnx"
    onnx.save(model, str(file))

    graph = read(file, client()).graph
    (node,) = selections(graph)
    own = onnxruntime.InferenceSession(str(file), providers=["CPUExecutionProvider"])
    shown = onnxruntime.InferenceSession(exposed(file, [node], graph.constants), providers=["CPUExecutionProvider"])
    names = [value.name for value in shown.get_outputs()]
    values = plainly(dict(zip(names, shown.run(names, {"images": IMAGES}))))
    found = node.choice(values, graph.constants)

    assert node.inside and node.learned
    assert np.array_equal(values["output"], own.run(["output"], {"images": IMAGES})[0])
    assert np.array_equal(found.indices, choice.indices) and found.limits == choice.limits
    assert np.array_equal(found.boxes, choice.boxes)


def test_a_suppression_by_counting_overlaps_is_a_decision(tmp_path):
    """Rows that no better one overlaps by more than a threshold: `nonzero((overlaps > threshold).sum(0) <= 0)`, as ultralytics
    suppresses rotated boxes. The comparison of overlaps decides, and not that of counts."""
    nodes = [
        helper.make_node("Greater", ["overlaps", "threshold"], ["over"], "decides"),
        helper.make_node("Cast", ["over"], ["numbers"], to=TensorProto.INT64),
        helper.make_node("ReduceSum", ["numbers", "first"], ["count"], keepdims=0),
        helper.make_node("LessOrEqual", ["count", "none"], ["free"], "counts"),
        helper.make_node("NonZero", ["free"], ["rows"]),
    ]
    constants = {
        "threshold": np.array(0.7, np.float32),
        "first": np.array([0], np.int64),
        "none": np.array(0, np.int64),
    }
    graph = helper.make_graph(
        nodes,
        "counting",
        [helper.make_tensor_value_info("overlaps", TensorProto.FLOAT, [4, 4])],
        [helper.make_tensor_value_info("rows", TensorProto.INT64, [1, "n"])],
        [numpy_helper.from_array(value, name) for name, value in constants.items()],
    )
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 13)], ir_version=8)
    onnx.save(model, str(tmp_path / "counting.onnx"))

    found = selections(read(tmp_path / "counting.onnx", client()).graph)
    assert {one.node: one.kind for one in found}["decides"] == CUT
