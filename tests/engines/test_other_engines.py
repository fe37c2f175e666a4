"""Engines that are asked for, and files of other runtimes. What is not installed is skipped: `tox -e engines` has it."""

from __future__ import annotations

import importlib.util
import json
import types

import numpy as np
import pytest

from detparity import engines
from detparity.artifacts.converted import converted
from detparity.checks.judging import _key
from detparity.cli import main
from detparity.core.errors import EngineError
from detparity.core.vocabulary import Load, Runner

pytest.importorskip("torch", minversion="1.13")
SIZE = ("64", "96")
MODEL = ("--model", "bundled")


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    """The bundled detector, small, as ONNX and for every runtime whose converter is here."""
    made = tmp_path_factory.mktemp("engines")
    there = [
        name for name, package in (("openvino", "openvino"), ("ncnn", "pnnx")) if importlib.util.find_spec(package)
    ]
    words = ["export", "--include", "onnx", *there, "--grid", "--img-size", *SIZE, "--output-dir", str(made)]
    assert main.main(words) == 0
    return made


def _checked(folder, capsys, *words):
    code = main.main(["check", *map(str, words), *MODEL, "--quick", "--json", str(folder / "r.json")])
    return code, json.loads((folder / "r.json").read_text()), capsys.readouterr()


def _needs(*packages):
    return pytest.mark.skipif(
        any(importlib.util.find_spec(package) is None for package in packages), reason=f"needs {', '.join(packages)}"
    )


def test_one_engine_that_is_not_there_is_named_with_its_extra(folder, monkeypatch, capsys):
    monkeypatch.setattr(engines.importlib.util, "find_spec", lambda name: None)

    code = main.main(["check", str(folder / "bundled.onnx"), *MODEL, "--engine", "openvino"])

    err = capsys.readouterr().err
    assert code == 2 and err == (
        "detparity: --engine openvino: the engine openvino is not installed: pip install 'detparity[openvino]'\n"
    )


def test_an_engine_that_judges_no_onnx_is_refused(folder, capsys):
    assert main.main(["check", str(folder / "bundled.onnx"), *MODEL, "--engine", "ncnn"]) == 2
    assert "a file of its own is judged without --engine" in capsys.readouterr().err


def test_in_a_list_it_is_not_judged_and_the_others_are(folder, monkeypatch, capsys):
    monkeypatch.setattr(engines.importlib.util, "find_spec", lambda name: None)

    words = (folder / "bundled.onnx", "--engine", "onnxruntime,tensorrt", "--checks", "parity.declared,engine")
    code, report, shown = _checked(folder, capsys, *words)

    assert code == 3 and [one["verdict"] for one in report["artifacts"]] == ["conforms", "incomplete"]
    assert [(row["engine"], row["precision"]) for row in report["engines"]] == [
        ("onnxruntime", "float32"),
        ("tensorrt", ""),
    ]
    assert report["artifacts"][1]["checks"][0]["reason"].startswith("not judged: the engine tensorrt is not installed")
    assert report["engines"][0]["time"] == 1.0 and "not judged: the engine tensorrt" in shown.out


def test_a_file_of_a_missing_engine_beside_another_file_is_not_judged(folder, monkeypatch, tmp_path, capsys):
    monkeypatch.setattr(engines.importlib.util, "find_spec", lambda name: None)
    (tmp_path / "best.tflite").write_bytes(b"\x1c\x00\x00\x00TFL3" + bytes(64))

    code, report, _ = _checked(
        folder, capsys, folder / "bundled.onnx", tmp_path / "best.tflite", "--checks", "parity.declared"
    )

    assert code == 3 and [one["verdict"] for one in report["artifacts"]] == ["conforms", "incomplete"]
    assert "pip install 'detparity[litert]'" in report["artifacts"][1]["checks"][0]["reason"]


def test_a_default_that_rounds_otherwise_is_named_with_its_cost(folder, session):
    context = session.judged(folder / "bundled.onnx", on="openvino")
    exact = engines.module("onnxruntime").prepare(folder / "bundled.onnx")
    facts = {"openvino": "1", "precision": "float32", "asked for": "float32"}

    def rough(feed):  # 8 bits of mantissa, as bfloat16 has
        found = exact.call(feed)
        return {name: (value.view(np.uint32) & 0xFFFF0000).view(np.float32) for name, value in found.items()}

    settings = (("float32", exact.call, facts), ("", rough, {**facts, "precision": "bfloat16"}))
    for precision, call, shown in settings:
        key = _key("openvino", Load(precision=precision))
        context._runners[key] = Runner("openvino", call, shown, exact.input_names)

    outcome = context.outcome("engine.default")

    assert context.outcome("parity.declared").outcome == "passed"
    assert [finding.level for finding in outcome.findings] == ["SHOULD"]
    message = outcome.findings[0].message
    assert message.startswith("computes in bfloat16 by default on this processor, and differs from the model")
    assert "INFERENCE_PRECISION_HINT" in outcome.findings[0].fix


def test_outputs_are_brought_to_the_models_shapes():
    boxes, scores = np.arange(24.0).reshape(1, 6, 4), np.arange(30.0).reshape(1, 6, 5)

    found = converted({"b": scores.transpose(0, 2, 1), "a": boxes[0]}, [boxes, scores])

    assert list(found) == ["a", "b"]
    assert np.array_equal(found["a"], boxes) and np.array_equal(found["b"], scores)
    assert converted({"a": np.zeros((1, 7, 4))}, [boxes])["a"].shape == (1, 7, 4)


@_needs("openvino")
def test_openvino_conforms_on_onnx_and_on_its_own_files(folder, capsys):
    words = (folder / "bundled.onnx", folder / "bundled_openvino_model", "--engine", "openvino")
    code, report, _ = _checked(folder, capsys, *words)

    assert code == 0 and [one["verdict"] for one in report["artifacts"]] == ["conforms"] * 2
    for one in report["artifacts"]:
        assert one["engine"]["precision"] == "float32" and one["engine"]["by default"] in (
            "float32",
            "bfloat16",
            "float16",
        )
        assert {"openvino", "threads", "layers"} <= set(one["engine"])
    assert [row["file"] for row in report["engines"]] == ["bundled.onnx", "bundled_openvino_model"]


@_needs("openvino")
def test_logits_and_predictions_are_judged_as_such_in_one_run(folder, tmp_path, capsys):
    words = ["export", "--include", "openvino", "--img-size", *SIZE, "--output-dir", str(tmp_path)]
    assert main.main(words) == 0
    raw, decoded = tmp_path / "bundled_openvino_model", folder / "bundled_openvino_model"

    code, report, _ = _checked(folder, capsys, decoded, raw, "--checks", "parity.declared")

    assert code == 0 and [one["verdict"] for one in report["artifacts"]] == ["conforms"] * 2


@_needs("openvino")
def test_the_precision_is_that_of_the_layers_with_weights():
    from detparity.engines import openvino

    def node(kind, precision):
        info = {"layerType": kind, "runtimePrecision": precision}
        return types.SimpleNamespace(
            rt_info={k: types.SimpleNamespace(astype=lambda _, v=v: v) for k, v in info.items()}
        )

    nodes = [
        node("Convolution", "bf16"),
        node("Convolution", "bf16"),
        node("Convolution", "f32"),
        node("Eltwise", "f32"),
    ]
    compiled = types.SimpleNamespace(
        get_runtime_model=lambda: types.SimpleNamespace(get_ops=lambda: nodes), get_property=lambda name: 1
    )

    facts = openvino._facts(compiled, Load())

    assert facts["precision"] == "bfloat16, float32" and facts["layers"] == "2 bfloat16, 1 float32"


@_needs("openvino")
def test_wrong_weights_of_a_converted_file_violate(folder, tmp_path, capsys):
    for one in (folder / "bundled_openvino_model").iterdir():
        (tmp_path / one.name).write_bytes(one.read_bytes())
    content = bytearray((tmp_path / "bundled.bin").read_bytes())
    weights = np.frombuffer(content, np.float32, len(content) // 4)
    weights[: len(weights) // 2] *= np.float32(1.001)
    (tmp_path / "bundled.bin").write_bytes(content)

    code, report, _ = _checked(folder, capsys, tmp_path)

    assert code == 1 and {"parity.declared"} == {
        check["id"]
        for check in report["artifacts"][0]["checks"]
        if check["outcome"] == "failed" and not check["findings"][0].get("follows")
    }


@_needs("ncnn", "pnnx")
def test_ncnn_conforms_and_what_it_does_by_default_is_read(folder, capsys):
    code, report, _ = _checked(folder, capsys, folder / "bundled_ncnn_model")

    one = report["artifacts"][0]
    assert (code, one["verdict"], one["engine"]["winograd"]) == (0, "conforms", "off")
    assert one["engine"]["precision"] == "float32" and f"at {SIZE[0]}x{SIZE[1]}" in one["how"]


def test_types_of_an_ncnn_model_are_those_of_all_its_layers(tmp_path):
    from detparity.engines.ncnn_types import stored

    lines = ["7767517", "4 4", "Input in0 0 1 in0", "MemoryData grid 0 1 g 0=3"]
    lines += [
        "Convolution first 1 1 in0 a 0=2 5=1 6=6",
        "ReLU one 1 1 a b",
        "InnerProduct last 1 1 b out0 0=3 1=1 2=15",
    ]
    (tmp_path / "x.param").write_text("\n".join(lines))
    first = bytes(4) + np.zeros(6 + 2, np.float32).tobytes()
    last = 0x01306B47.to_bytes(4, "little") + np.zeros(15 + 1, np.float16).tobytes() + bytes(12)
    (tmp_path / "x.bin").write_bytes(bytes(12) + first + last)

    assert stored(tmp_path / "x.param", tmp_path / "x.bin") == {"float32": 6, "float16": 15}


@_needs("executorch")
def test_types_of_a_program_are_those_of_its_backends_constants():
    import flatbuffers

    from detparity.engines.executorch_types import stored

    builder = flatbuffers.Builder(0)
    builder.StartVector(4, 2, 4)
    for side in (3, 8):
        builder.PrependUint32(side)
    dims = builder.EndVector()
    builder.StartObject(7)
    builder.PrependInt16Slot(0, 2, 0)
    builder.PrependUOffsetTRelativeSlot(2, dims, 0)
    builder.PrependUint32Slot(3, 1, 0)
    tensor = builder.EndObject()
    builder.StartObject(2)
    builder.PrependUint8Slot(0, 1, 0)
    builder.PrependUOffsetTRelativeSlot(1, tensor, 0)
    value = builder.EndObject()
    builder.StartVector(4, 1, 4)
    builder.PrependUOffsetTRelative(value)
    values = builder.EndVector()
    builder.StartObject(9)
    builder.PrependUOffsetTRelativeSlot(2, values, 0)
    builder.Finish(builder.EndObject(), file_identifier=b"XN01")

    assert stored(b"before" + bytes(builder.Output())) == {"float16": 24}
    assert stored(b"letters XN01 in other bytes") == {}


@_needs("ncnn", "pnnx")
def test_a_file_that_ends_the_process_is_a_finding_and_the_next_is_judged(folder, tmp_path, capsys):
    param = next((folder / "bundled_ncnn_model").glob("*.param")).read_text()
    (tmp_path / "cut.param").write_text(param)
    (tmp_path / "cut.bin").write_bytes(b"\x00" * 8)
    (tmp_path / "metadata.yaml").write_text(f"imgsz: [{SIZE[0]}, {SIZE[1]}]\n")

    code, report, _ = _checked(folder, capsys, tmp_path, folder / "bundled_ncnn_model")

    assert code == 1 and [one["verdict"] for one in report["artifacts"]] == ["violates", "conforms"]


@_needs("ncnn", "pnnx")
def test_ncnn_without_a_size_is_not_guessed(folder, tmp_path, capsys):
    for one in (folder / "bundled_ncnn_model").glob("*.ncnn.*"):
        (tmp_path / one.name).write_bytes(one.read_bytes())

    assert main.main(["check", str(tmp_path), *MODEL]) == 2
    assert "states no image size" in capsys.readouterr().out


@_needs("ai_edge_litert")
def test_litert_names_what_it_cannot_load(tmp_path):
    from detparity.engines import litert

    (tmp_path / "a.tflite").write_bytes(b"\x1c\x00\x00\x00TFL3" + bytes(64))

    with pytest.raises(EngineError):
        litert.read(str(tmp_path / "a.tflite"))


@_needs("ai_edge_litert")
def test_eight_bits_are_given_and_read_by_their_scale():
    from detparity.artifacts.runtime_file import Port
    from detparity.engines import litert

    port = Port("x", (1, 4), "int8", 0.5, 3)
    values = np.array([[-100.0, 0.0, 0.26, 100.0]], np.float32)

    assert litert._stored(values, port).tolist() == [[-128, 3, 4, 127]]
    assert litert._read(np.array([3, 4], np.int8), port).tolist() == [0.0, 0.5]


@pytest.fixture(scope="module")
def mnn_files(folder):
    """The bundled detector as MNN stores it, with weights of float32, float16 and 8 bits."""
    import _tools  # MNN's converter; its module MNN.tools installs other packages

    for name, words in (("plain", ()), ("half", ("--fp16",)), ("int8", ("--weightQuantBits", "8"))):
        paths = ["--modelFile", str(folder / "bundled.onnx"), "--MNNModel", str(folder / f"{name}.mnn")]
        _tools.mnnconvert(["mnnconvert", "-f", "ONNX", *paths, "--bizCode", "x", *words])
    return folder


@_needs("MNN", "flatbuffers")
def test_mnn_conforms_and_the_types_of_its_weights_are_read(mnn_files, capsys):
    from detparity.engines import mnn

    code, report, _ = _checked(mnn_files, capsys, mnn_files / "plain.mnn", mnn_files / "half.mnn")

    one, half = report["artifacts"]
    assert (code, one["verdict"], half["verdict"]) == (0, "conforms", "conforms"), one["checks"]
    assert (one["engine"]["precision"], one["engine"]["weights"]) == ("float32", "float32")
    assert (half["precision"]["name"], half["engine"]["weights"]) == ("float16", "float16")
    eight = mnn.read(str(mnn_files / "int8.mnn"))
    assert (eight.weights, eight.quantised) == ("int8", True)


@_needs("MNN", "flatbuffers")
def test_mnn_refuses_what_it_cannot_load_and_another_size(mnn_files, tmp_path):
    from detparity.engines import mnn

    (tmp_path / "cut.mnn").write_bytes((mnn_files / "plain.mnn").read_bytes()[:5000])
    with pytest.raises(EngineError):
        mnn.read(str(tmp_path / "cut.mnn"))
    runner = mnn.prepare(mnn_files / "plain.mnn", Load(threads=1))
    with pytest.raises(EngineError, match="is given"):  # MNN itself would give its last numbers
        runner.call({"images": np.zeros((2, 3, *map(int, SIZE)), np.float32)})
