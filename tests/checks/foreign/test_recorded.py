"""What a file records of the model that it is of decides the form that the model is asked for, beside what the user states."""

from __future__ import annotations

import json
import zipfile
from types import SimpleNamespace

import numpy as np
import onnx
import pytest
import torch
from onnx import TensorProto, helper, numpy_helper

from detparity.artifacts import torchscript_suppression
from detparity.artifacts.script_config import config
from detparity.artifacts.torchscript_graph import Known
from detparity.checks.foreign import sources
from detparity.checks.foreign.recorded import NOTHING, recorded
from detparity.core.errors import InputError
from detparity.models.choice import ModelChoice

SPEC = "ultralytics:yolo11n.pt"
NMS = {"nms": True, "dynamic": False}
READ = {"nms": True, "conf": 0.05, "iou": 0.6, "max_det": 40}


def _onnx(path, metadata, rows=40, by_class=True, iou=0.6, limit=0.05):
    """Best classes over a threshold, suppressed, of which `rows` are taken; rows None: the output's axis is open."""
    floats = {"limit": limit, "iou": iou, "apart": 0.0125}
    tensors = {name: np.array([value], np.float32) for name, value in floats.items() if value is not None}
    whole = {"most": [2**63 - 1], "zero": [0], "end": [40], "axis": [0], "two": [2], "flat": [-1], "wide": [1, 1, -1]}
    tensors.update({name: np.array(value, np.int64) for name, value in whole.items()})
    best = "apart_boxes" if by_class else "boxes"
    nodes = [
        helper.make_node("ReduceMax", ["scores"], ["best"], axes=[1], keepdims=0),
        helper.make_node("ArgMax", ["scores"], ["which"], axis=1, keepdims=1),
        helper.make_node("Cast", ["which"], ["class"], to=TensorProto.FLOAT),
        helper.make_node("Greater", ["best", "limit"], ["over"]),
        helper.make_node("Cast", ["over"], ["passing"], to=TensorProto.FLOAT),
        helper.make_node("Mul", ["best", "passing"], ["score"]),
        helper.make_node("Reshape", ["score", "wide"], ["score3"]),
        helper.make_node("Mul", ["class", "apart"], ["offset"]),
        helper.make_node("Add", ["boxes", "offset"], ["apart_boxes"]),
        helper.make_node("Unsqueeze", [best], ["boxes3"], axes=[0]),
        helper.make_node("NonMaxSuppression", ["boxes3", "score3", "most", "iou"], ["held"]),
        helper.make_node("Slice", ["held", "zero", "end", "axis"], ["some"]),
        helper.make_node("Cast", ["some"], ["output0"], to=TensorProto.FLOAT),
    ]
    shape = ["n", "k"] if rows is None else [1, rows, 6]
    inputs = [("boxes", [20, 4]), ("scores", [20, 3]), *([] if iou is not None else [("iou", [1])])]
    graph = helper.make_graph(
        nodes,
        "suppressing",
        [helper.make_tensor_value_info(name, TensorProto.FLOAT, one) for name, one in inputs],
        [helper.make_tensor_value_info("output0", TensorProto.FLOAT, shape)],
        [numpy_helper.from_array(value, name) for name, value in tensors.items()],
    )
    made = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 12)], ir_version=8)
    helper.set_model_props(made, metadata)
    onnx.save(made, str(path))
    return path


@pytest.fixture
def file(tmp_path):
    return lambda metadata, **more: _onnx(tmp_path / "a.onnx", {k: str(v) for k, v in metadata.items()}, **more)


def test_suppression_is_that_of_the_file(file):
    found = recorded(file({"args": NMS}), SPEC, {})

    assert found.options == READ
    assert recorded(file({"args": NMS}, limit=0.0), SPEC, {}).options == {**READ, "conf": 0.0}
    assert found.text == "with suppression as it records it (conf 0.05, iou 0.6, max_det 40)"


@pytest.mark.parametrize("rows", [None, 40])
def test_one_for_all_classes_is_seen_by_its_boxes(rows, file):
    found = recorded(file({"args": NMS}, rows=rows, by_class=False), SPEC, {})

    assert found.options == {**READ, "agnostic_nms": True}
    assert "one for all classes" in found.text


def test_what_is_stated_stands(file):
    found = recorded(file({"args": NMS}), SPEC, {"conf": 0.3, "nms": True})

    assert found.options == {"iou": 0.6, "max_det": 40}


def test_a_number_that_cannot_be_read_is_asked_for(file):
    path = file({"args": NMS}, iou=None)

    with pytest.raises(InputError, match=r"its iou cannot be read: state them, such as --model-args"):
        recorded(path, SPEC, {})
    assert recorded(path, SPEC, {"iou": 0.7}).options == {"nms": True, "conf": 0.05, "max_det": 40}


@pytest.mark.parametrize(
    ("metadata", "options"),
    [
        ({"args": {"nms": None}, "end2end": "False"}, {"end2end": False}),
        ({"args": {"nms": False}, "end2end": "True"}, {"end2end": True}),
        ({"args": "no mapping"}, {}),
        ({}, {}),
    ],
)
def test_the_head_is_that_of_the_file(metadata, options, file):
    assert recorded(file(metadata), SPEC, {}).options == options
    assert recorded(file(metadata), SPEC, {"nms": True}).options == {}


def test_of_a_file_of_another_runtime_the_metadata_beside_it_counts(tmp_path):
    model = tmp_path / "best_openvino_model"
    model.mkdir()
    (model / "best.xml").write_bytes(b'<?xml version="1.0"?><net name="x" ></net>')
    (model / "best.bin").write_bytes(b"0")
    assert recorded(model, SPEC, {}).options == {}
    (model / "metadata.yaml").write_text("task: detect\nend2end: true\nargs:\n  batch: 1\n  nms: false\n")
    assert recorded(model, SPEC, {}).options == {"end2end": True}
    (model / "metadata.yaml").write_text("end2end: false\nargs:\n  nms: true\n")
    with pytest.raises(InputError, match="its conf, iou, max_det cannot be read"):
        recorded(model, SPEC, {})
    assert recorded(model, SPEC, {"conf": 0.1, "iou": 0.5, "max_det": 20}).options == {"nms": True}


def test_libreyolo_records_the_numbers(file):
    stored = {"nms": "true", "nms_conf": "0.25", "nms_iou": "0.45", "max_det": "300"}

    found = recorded(file(stored), "libreyolo:yolo9-t", {})
    assert found.options == {"nms": True, "conf": 0.25, "iou": 0.45, "max_det": 300}
    with pytest.raises(InputError, match="its iou, max_det cannot be read"):
        recorded(file({"nms": "true", "nms_conf": "0.25", "nms_iou": "many"}), "libreyolo:yolo9-t", {})
    assert recorded(file({"nms": "false"}), "libreyolo:yolo9-t", {}).options == {}


def test_of_other_models_nothing_is_read(file):
    for spec in ("torchvision:ssd300_vgg16", "package.module:name"):
        assert recorded(file({"args": NMS}), spec, {}) is NOTHING


@pytest.mark.parametrize("given", [None, '{"conf": 0.3}'])
def test_each_file_is_judged_against_the_model_in_its_form(given, file, tmp_path, monkeypatch):
    asked = []
    monkeypatch.setattr(sources, "_made", lambda request: asked.append(request.arguments) or SimpleNamespace())
    bare = _onnx(tmp_path / "bare.onnx", {"args": "{'nms': None}"})
    suppressing = file({"args": NMS})

    source = sources.source_of(ModelChoice(model=SPEC, model_args=given))

    assert source.reference(bare) is source.reference(bare) is not source.reference(suppressing)
    stated = json.loads(given) if given else {}
    assert [json.loads(one) if one else {} for one in asked] == [stated, {**READ, **stated}]
    assert source.stated(bare) == "" != source.stated(suppressing)


def test_a_model_that_cannot_be_made_is_tried_once(file, monkeypatch):
    asked = []

    def fail(request):
        asked.append(request)
        raise InputError("no such model")

    monkeypatch.setattr(sources, "_made", fail)
    path = file({})
    source = sources.source_of(ModelChoice(model=SPEC))
    for _ in range(3):
        with pytest.raises(InputError, match="no such model"):
            source.reference(path)
    assert len(asked) == 1
    with pytest.raises(InputError, match="no such model"):
        sources.source_of(ModelChoice(model="package.module:name"))


def test_a_script_that_does_not_load_is_named_so(tmp_path):
    """Not as one whose numbers have to be stated."""
    path = tmp_path / "a.torchscript"
    with zipfile.ZipFile(path, "w") as archive:
        for member in ("constants.pkl", "data.pkl"):
            archive.writestr(f"a/{member}", b"")
        archive.writestr("a/extra/config.txt", json.dumps({"args": {"nms": True}}))

    with pytest.raises(InputError, match="is not a TorchScript archive torch can load"):
        recorded(path, SPEC, {})


def test_the_configuration_in_an_archive_is_read_within_bounds(tmp_path):
    path = tmp_path / "a.torchscript"
    with zipfile.ZipFile(path, "w") as archive:
        archive.writestr("a/constants.pkl", b"")
        archive.writestr("a/extra/config.txt", json.dumps({"imgsz": [256, 320], "batch": 2}))

    assert config(path) == {"imgsz": "[256, 320]", "batch": "2"}
    path.write_bytes(path.read_bytes()[:-9])
    assert config(path) == {}


GRAPH = """
graph(%self, %boxes, %scores):
  %limit : float = prim::Constant[value=0.05]()
  %iou : float = prim::Constant[value=0.6]()
  %dim : int = prim::Constant[value=1]()
  %flag : bool = prim::Constant[value=0]()
  %zero : int = prim::Constant[value=0]()
  %most : int = prim::Constant[value=40]()
  %best, %which = aten::max(%scores, %dim, %flag)
  %over = aten::gt(%best, %limit)
  %apart = aten::add(%boxes, {apart}, %dim)
  %held = torchvision::nms(%apart, %best, %iou)
  %some = aten::slice(%held, %zero, %zero, %most, %dim)
  return (%some)
"""


@pytest.mark.parametrize(("apart", "by_class"), [("%which", 1.0), ("%best", 0.0)])
def test_numbers_of_a_script(apart, by_class):
    graph = torch._C.parse_ir(GRAPH.format(apart=apart))

    found = torchscript_suppression.numbers(Known(SimpleNamespace(inlined_graph=graph)))

    assert found == {"iou": 0.6, "score": 0.05, "most": 40.0, "apart": by_class}
    nothing = torch._C.parse_ir("graph(%self, %x):\n  return (%x)\n")
    assert torchscript_suppression.numbers(Known(SimpleNamespace(inlined_graph=nothing))) == {}
