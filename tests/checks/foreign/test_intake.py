"""What `detparity check` says of files where no model is given, where their own graph is, and of options that do not go together."""

from __future__ import annotations

import json
import re

import pytest

pytest.importorskip("torch", minversion="1.13")  # float64 of any module

import numpy as np
import torch
from detparity.kit.tests.checks.foreign import stand_ins
from detparity.kit.tests.checks.foreign.stand_ins import SIZES, STATIC, onnx_of, traced_of
from detparity.kit.tests.defects import edits
from onnx import TensorProto, helper, numpy_helper

from detparity.cli import main
from detparity.core.layout import PRESETS

SCREEN = (24, 132)  # lines and columns of a terminal


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    """Files of stand-ins: a good one, one whose classes are shifted, one that varies, a trace, and one of a suppressing model."""
    found = tmp_path_factory.mktemp("files")
    good = onnx_of("ultralytics")
    (found / "good.onnx").write_bytes(good.SerializeToString())
    edits.splice(good, "output0", lambda x, op: op("Mul", x, 1.001))
    (found / "scaled.onnx").write_bytes(good.SerializeToString())
    good.graph.node[0].op_type = "Unheard"
    (found / "unheard.onnx").write_bytes(good.SerializeToString())
    (found / "dynamic.onnx").write_bytes(onnx_of("detr", SIZES).SerializeToString())
    (found / "selected.onnx").write_bytes(onnx_of("ultralytics-nms", STATIC).SerializeToString())
    (found / "traced.pt").write_bytes(traced_of("ultralytics"))
    return found


@pytest.fixture
def command(folder, monkeypatch, capsys):
    """Run the command beside the files; returns (exit code, stdout, stderr)."""
    monkeypatch.chdir(folder)

    def run(*words):
        code = main.main(list(words))
        captured = capsys.readouterr()
        return code, captured.out, captured.err

    return run


def _verdict(out):
    return [line for line in out.splitlines() if line.startswith("Verdict: ")][-1]


def test_what_blocks_the_only_check_that_was_asked_for_decides(command):
    code, out, _ = command("check", "unheard.onnx", "--against", "good.onnx", "--checks", "parity.declared")
    assert code == 1 and "structure.load: unheard.onnx" in out and "blocked by structure.load" in out


@pytest.mark.parametrize("file", ["good.onnx", "traced.pt"])
def test_a_file_without_a_model_is_refused_with_what_would_do(file, command):
    code, out, err = command("check", file)
    assert (code, out) == (2, "")
    lines = err.splitlines()
    assert len(lines) <= SCREEN[0] and max(map(len, lines)) <= SCREEN[1]
    assert file in lines[0]
    for option in (
        "--weights",
        "--model FILE.py:FACTORY",
        "--capture",
        "--against",
        "--against self",
        "--model bundled",
    ):
        assert option in err


@pytest.mark.parametrize("file", ["good.onnx", "dynamic.onnx", "selected.onnx"])
def test_a_file_against_itself_is_consistent(file, command):
    pytest.importorskip("detparity.engines.onnx_exact")
    code, out, _ = command("check", file, "--against", "self", "--quick")
    assert code == 0, out
    found = _verdict(out)
    assert found.startswith("Verdict: consistent against its own graph in float64 (no model was compared)")
    ran, apply = map(int, re.search(r"(\d+) of (\d+) checks", found).groups())
    assert ran > 10 and ran <= apply
    assert "conforms" not in out


def test_a_file_against_another(command):
    pytest.importorskip("detparity.engines.onnx_exact")
    code, out, _ = command("check", "scaled.onnx", "--against", "good.onnx", "--quick", "--checks", "parity.declared")
    assert code == 1
    assert "Verdict: violates against good.onnx" in _verdict(out)
    code, out, _ = command("check", "good.onnx", "--against", "good.onnx", "--quick", "--checks", "parity.declared")
    assert code == 0
    assert "Verdict: consistent against good.onnx" in _verdict(out)


def test_checks_narrow_a_run(command, tmp_path):
    pytest.importorskip("detparity.engines.onnx_exact")
    report = tmp_path / "report.json"
    code, out, _ = command(
        "check", "good.onnx", "--against", "self", "--checks", "structure.load,parity.repeat", "--json", str(report)
    )
    assert code == 0
    assert re.search(r"2 of \d\d checks", _verdict(out))
    entry = json.loads(report.read_text())["artifacts"][0]
    assert [check["id"] for check in entry["checks"]] == ["structure.load", "parity.repeat"]
    assert entry["applying"] > 10 and entry["model"] is False


def test_low_power_is_in_the_verdict_line(command, folder):
    pytest.importorskip("detparity.engines.onnx_exact")
    dark = onnx_of("ultralytics", STATIC, stand_ins.made("ultralytics", shift=-60.0))
    edits.set_metadata(dark, task="detect", stride="32")
    (folder / "nothing.onnx").write_bytes(dark.SerializeToString())
    code, out, _ = command("check", "nothing.onnx", "--against", "self", "--quick", "--checks", "parity.declared")
    assert code == 0 and "low power: no score exceeds" in _verdict(out)
    code, out, _ = command(
        "check", "nothing.onnx", "--against", "self", "--quick", "--strict", "--checks", "parity.declared"
    )
    assert code == 3 and _verdict(out).startswith("Verdict: incomplete")


LAYOUTS = ", ".join(PRESETS)


TOGETHER = [
    (["--against", "self", "--model", "a.py:make"], "both choose what files are judged against"),
    (["--against", "self", "--arch", "yolov7-tiny"], "both choose what files are judged against"),
    (["--against", "self", "--capture", "there"], "both choose what files are judged against"),
    (["--against", "missing.onnx"], "missing.onnx"),
    (["--against", "self", "--layout", "ultralitics"], LAYOUTS),
    (["--against", "self", "--layout", "missing.toml"], "missing.toml"),
    (["--against", "self", "--checks", "parity.everything"], "parity.everything"),
    (["--against", "self", "--checks", "nms.thresholds"], "nms.thresholds"),
    (["--against", "self", "--img-size", "32", "64"], "takes 64x96 alone"),
    (["--model", "bundled", "--layout", "ultralytics"], "--layout"),
    (["--model", "bundled", "--condition"], "--condition"),
    (["--model", "bundled", "--model-args", "{}"], "--model-args"),
    (["--model", "nothing"], "nothing"),
    (["--model", "missing.py:make"], "missing.py"),
    (["--model", ""], "--model"),
    (["--against", ""], "is a directory"),
    (["--against", "self", "--model-args", "{}"], "--model-args"),
    (["--against", "self", "--seed", "3"], "--seed"),
    (["--against", "self", "--exporter", "grid"], "--exporter"),
    (["--against", "self", "--variant", "grid"], "--variant"),
    (["--against", "self", "--topk-all", "10"], "--topk-all"),
    (["--against", "self", "--opset", "13"], "--opset"),
    (["--against", "self", "--expectations", "there.toml"], "there.toml"),
]


@pytest.mark.parametrize(("words", "says"), TOGETHER, ids=[" ".join(words) for words, _ in TOGETHER])
def test_options_that_do_not_go_together_are_one_line(words, says, command):
    code, out, err = command("check", "good.onnx", *words)
    text = err or out
    assert code == 2, text
    assert says in text
    assert "Traceback" not in text
    assert len(err.splitlines()) <= 1, err


def test_options_without_a_file_are_one_line(command):
    for words in (["--against", "self"], ["--layout", "ultralytics"], ["--capture", "there"]):
        code, _, err = command("check", *words)
        assert code == 2 and len(err.splitlines()) == 1, (words, err)


def test_half_precision_beside_a_float32_file_has_no_known_noise(command, folder):
    """A right half file was 7,140 floors of float32 away from the file it was converted from."""
    float16 = pytest.importorskip("onnxruntime.transformers.float16")
    half = float16.convert_float_to_float16(onnx_of("detr"), keep_io_types=False)
    (folder / "plain.onnx").write_bytes(onnx_of("detr").SerializeToString())
    (folder / "half.onnx").write_bytes(half.SerializeToString())
    code, out, _ = command("check", "half.onnx", "--against", "plain.onnx")
    says = "half.onnx is of float16, and what that does to plain.onnx is not known"
    assert code == 2 and says in " ".join(out.split())
    (folder / "plain.pt").write_bytes(traced_of("detr"))
    torch.jit.load(str(folder / "plain.pt")).half().save(str(folder / "half.pt"))
    code, out, _ = command("check", "half.pt", "--against", "plain.pt")
    assert code == 2 and "half.pt is of float16, and what that does to plain.pt is not known" in " ".join(out.split())
    code, out, _ = command("check", "half.onnx", "--against", "self", "--checks", "parity.declared")
    assert code in (0, 3) and "violates" not in _verdict(out)


def _suppressing(model):
    """The same file with suppression after it: the rows that are retained."""
    more = {
        "to": [4],
        "from": [0],
        "rest": [2**31 - 1],
        "axis": [1],
        "most": [20],
        "flat": [-1],
        "two": [2],
        "front": [0],
    }
    model.graph.initializer.extend(numpy_helper.from_array(np.array(v, np.int64), k) for k, v in more.items())
    model.graph.initializer.append(numpy_helper.from_array(np.array([0.5], np.float32), "iou"))
    end = model.graph.output[0].name
    steps = [
        ("Slice", [end, "from", "to", "axis"], "columns", {}),
        ("Slice", [end, "to", "rest", "axis"], "scores", {}),
        ("Transpose", ["columns"], "boxes", {"perm": [0, 2, 1]}),
        ("NonMaxSuppression", ["boxes", "scores", "most", "iou"], "held", {"center_point_box": 1}),
        ("Gather", ["held", "two"], "wide", {"axis": 1}),
        ("Reshape", ["wide", "flat"], "index", {}),
        ("Transpose", [end], "rows", {"perm": [0, 2, 1]}),
        ("Gather", ["rows", "index"], "detections", {"axis": 1}),
    ]
    model.graph.node.extend(helper.make_node(op, ins, [out], **attributes) for op, ins, out, attributes in steps)
    del model.graph.output[:]
    model.graph.output.append(helper.make_tensor_value_info("detections", TensorProto.FLOAT, [1, "n", "columns"]))
    return model


def test_suppression_that_the_model_has_not_is_no_other_model(folder, command):
    """What is known is that a part of the file was compared with nothing, and how to state the model."""
    (folder / "suppressing.onnx").write_bytes(_suppressing(onnx_of("ultralytics")).SerializeToString())

    code, out, _ = command("check", "suppressing.onnx", "--against", "good.onnx", "--checks", "parity.declared", "-v")
    assert code == 3 and "FAILED" not in out
    assert "give the model with its suppression (--model-args, or detparity capture)" in " ".join(out.split())
    code, out, _ = command("check", "scaled.onnx", "--against", "good.onnx", "--checks", "parity.declared")
    assert code == 1


def test_the_size_that_an_archive_states_is_that_of_its_image(folder, command):
    module = torch.jit.load(str(folder / "traced.pt"))
    stated = {"config.txt": json.dumps({"imgsz": [96, 64], "batch": 1, "args": {"dynamic": False}})}
    torch.jit.save(module, str(folder / "stated.pt"), _extra_files=stated)

    _, out, _ = command("check", "stated.pt", "--against", "self", "--checks", "script.load", "-v")
    assert "at 96x64" in out
    _, out, _ = command("check", "stated.pt", "--against", "self", "--checks", "script.load", "-v", "--img-size", "64")
    assert "at 64x64" in out
