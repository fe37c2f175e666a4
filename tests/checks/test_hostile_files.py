"""Files that write, hang, crash or eat memory: each is a finding of that file, and every other file of the run is judged."""

from __future__ import annotations

import gc
import json
import shutil
import weakref
from typing import Tuple

import numpy as np
import onnx
import pytest
import torch
from onnx import TensorProto, helper, numpy_helper

from detparity.checks import context
from detparity.checks.run import Options, Session, judge_all
from detparity.cli import main as command_line
from detparity.core import landlock
from detparity.engines import remote
from detparity.engines.reference_runs import Oracle
from detparity.models.choice import ModelChoice
from detparity.models.compat import jit
from detparity.models.yolov7.seeded import seeded
from detparity.tools.export_cache import exported

MODEL = ("--arch", "yolov7-tiny", "--width", "0.25", "--quick")
ROWS, FIELDS = 3 * (8 * 12 + 4 * 6 + 2 * 3), 85


@pytest.fixture(autouse=True)
def short_limits(monkeypatch):
    """Five seconds in place of a minute."""
    monkeypatch.setattr(remote, "LEAST_SECONDS", 5.0)
    monkeypatch.setattr(context, "LEAST_SECONDS", 5.0)


@pytest.fixture(scope="module")
def good(tmp_path_factory, shared_folder):
    path = tmp_path_factory.mktemp("good") / "good.onnx"
    path.write_bytes(exported(seeded("yolov7-tiny", 0.25, 0), "grid", (64, 96), shared_folder).read_bytes())
    return path


def _onnx(path, nodes, constants=()):
    """A file with the interface of a detector, whose predictions are the mean of the image plus the tensor `extra`."""
    image = helper.make_tensor_value_info("images", TensorProto.FLOAT, [1, 3, 64, 96])
    output = helper.make_tensor_value_info("output", TensorProto.FLOAT, [1, ROWS, FIELDS])
    shape = numpy_helper.from_array(np.array([1, ROWS, FIELDS], np.int64), "shape")
    after = [
        helper.make_node("ReduceMean", ["images"], ["mean"], keepdims=0),
        helper.make_node("Add", ["mean", "extra"], ["sum"]),
        helper.make_node("Expand", ["sum", "shape"], ["output"]),
    ]
    graph = helper.make_graph([*nodes, *after], "g", [image], [output], [shape, *constants])
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 12)], ir_version=7)
    onnx.save(model, path)
    return path


def crashes(path):
    """ONNX Runtime asserts low < high."""
    nodes = [
        helper.make_node("RandomUniform", [], ["random"], low=1e30, shape=[1]),
        helper.make_node("ReduceMax", ["random"], ["extra"], keepdims=0),
    ]
    return _onnx(path, nodes)


def hangs(path):
    """A Loop of 2^60 steps."""
    body = helper.make_graph(
        [helper.make_node("Identity", ["c"], ["c_out"]), helper.make_node("Add", ["v", "v"], ["v_out"])],
        "body",
        [
            helper.make_tensor_value_info("i", TensorProto.INT64, []),
            helper.make_tensor_value_info("c", TensorProto.BOOL, []),
            helper.make_tensor_value_info("v", TensorProto.FLOAT, []),
        ],
        [
            helper.make_tensor_value_info("c_out", TensorProto.BOOL, []),
            helper.make_tensor_value_info("v_out", TensorProto.FLOAT, []),
        ],
    )
    constants = [
        numpy_helper.from_array(np.array(2**60, np.int64), "count"),
        numpy_helper.from_array(np.array(True), "go"),
        numpy_helper.from_array(np.array(0, np.float32), "start"),
    ]
    return _onnx(path, [helper.make_node("Loop", ["count", "go", "start"], ["extra"], body=body)], constants)


def eats(path):
    """A constant of 400 GB, made while it runs."""
    constants = [numpy_helper.from_array(np.array([100_000_000_000], np.int64), "many")]
    nodes = [
        helper.make_node("ConstantOfShape", ["many"], ["large"]),
        helper.make_node("ReduceMax", ["large"], ["extra"], keepdims=0),
    ]
    return _onnx(path, nodes, constants)


def _check(capsys, *words):
    capsys.readouterr()
    code = command_line.main(["check", *map(str, words)])
    out, err = capsys.readouterr()
    return code, out, err


def test_every_file_gets_its_verdict(good, tmp_path, capsys):
    names = []
    for number in range(9):
        shutil.copy(good, tmp_path / f"good{number}.onnx")
        names.append(tmp_path / f"good{number}.onnx")
    names[2:2] = [crashes(tmp_path / "crash.onnx"), hangs(tmp_path / "hang.onnx"), eats(tmp_path / "eat.onnx")]
    report = tmp_path / "report.json"

    code, out, err = _check(capsys, *names, *MODEL, "--checks", "structure.load,parity.declared", "--json", report)

    found = {entry["path"].rsplit("/", 1)[-1]: entry for entry in json.loads(report.read_text())["artifacts"]}
    assert (code, err) == (1, "") and len(found) == 12
    assert {name: entry["verdict"] for name, entry in found.items() if name.startswith("good")} == {
        f"good{number}.onnx": "conforms" for number in range(9)
    }
    assert "crash.onnx crashes the process (SIGABRT) while onnxruntime runs it." in out
    assert "hang.onnx is not done after 5 s while onnxruntime" in out
    assert [found[f"{name}.onnx"]["verdict"] for name in ("crash", "hang", "eat")] == ["violates"] * 3


class Writes(torch.nn.Module):
    """Writes a file where it is told when it runs."""

    def __init__(self, path: str) -> None:
        super().__init__()
        self.path = path

    def forward(self, images: torch.Tensor) -> torch.Tensor:
        torch.save(images, self.path)
        return images


class Shares(torch.nn.Module):
    """Maps a file into memory and writes to it."""

    def __init__(self, path: str) -> None:
        super().__init__()
        self.path = path

    def forward(self, images: torch.Tensor) -> torch.Tensor:
        torch.from_file(self.path, True, 16).fill_(7.0)
        return images


class SharesWhenLoaded(torch.nn.Module):
    """The same when it is loaded, without being run."""

    def __init__(self, path: str) -> None:
        super().__init__()
        self.path = path

    @torch.jit.export
    def __getstate__(self) -> Tuple[str, bool]:
        return self.path, self.training

    @torch.jit.export
    def __setstate__(self, state: Tuple[str, bool]) -> None:
        self.path = state[0]
        self.training = state[1]
        torch.from_file(self.path, True, 16).fill_(7.0)

    def forward(self, images: torch.Tensor) -> torch.Tensor:
        return images


class Endless(torch.nn.Module):
    def forward(self, images: torch.Tensor) -> torch.Tensor:
        while bool(images.sum() > -1.0):
            images = images + 1.0
        return images


def _script(module, path):
    try:
        jit.save(jit.script(module), str(path), {})
    except Exception as error:  # the operator is not in every version's language
        pytest.skip(f"this torch does not script it: {type(error).__name__}")
    return path


@pytest.mark.skipif(not landlock.abi(), reason="this kernel has no Landlock: SECURITY.md says what holds then")
@pytest.mark.parametrize("kind", [Writes, Shares, SharesWhenLoaded])
def test_a_script_that_writes_is_refused_by_the_kernel(kind, tmp_path, capsys):
    target = tmp_path / "written"
    path = _script(kind(str(target)), tmp_path / "writes.pt")

    code, out, _ = _check(capsys, path, *MODEL, "--img-size", 64, 96)

    assert code == 1 and not target.exists()
    assert "writes.pt: violates" in out


def test_a_file_and_its_engines_are_released_after_its_last_check(good, monkeypatch):
    session = Session(
        Options(ModelChoice(arch="yolov7-tiny", width=0.25), (good,), checks="structure.load", quick=True)
    )
    (subject,) = session.subjects()
    context = weakref.ref(session.context(good))

    assert [judged.outcome.outcome for judged in judge_all(session, [subject])] == ["passed"]
    gc.collect()
    assert context() is None


def test_a_script_without_an_end_is_a_finding(good, tmp_path, capsys):
    path = _script(Endless(), tmp_path / "endless.pt")

    code, out, _ = _check(capsys, path, good, *MODEL, "--checks", "script.load,structure.load", "--img-size", 64, 96)

    assert code in (1, 3)
    assert "is not done after 5 s while torchscript runs it" in out
    assert "good.onnx: conforms" in out


class Waits(torch.nn.Module):
    """Takes forever to be read."""

    def __init__(self) -> None:
        super().__init__()
        self.number = 1

    @torch.jit.export
    def __getstate__(self) -> Tuple[int, bool]:
        return self.number, self.training

    @torch.jit.export
    def __setstate__(self, state: Tuple[int, bool]) -> None:
        self.number = state[0]
        self.training = state[1]
        while self.number > 0:
            self.number = 1

    def forward(self, images: torch.Tensor) -> torch.Tensor:
        return images + self.number


@pytest.mark.parametrize(
    "slowest, code, says",
    [(0.0, 1, "violates"), (100.0, 3, "incomplete")],
)
def test_a_script_whose_reading_has_no_end(slowest, code, says, good, tmp_path, capsys, monkeypatch):
    """It is at fault unless the model itself needs more than a quarter of the limit."""
    monkeypatch.setattr(Oracle, "slowest", property(lambda self: slowest, lambda self, value: None), raising=False)
    path = _script(Waits(), tmp_path / "waits.pt")

    found, out, err = _check(capsys, path, good, *MODEL, "--checks", "script.load,structure.load")

    assert (found, err) == (code, "")
    assert f"waits.pt: {says}" in out and "good.onnx: conforms" in out
    assert "is not done after 5 s while torch loads it" in out
    assert ("the reference needs more than a quarter of that" in out) == (code == 3)


class Prints(torch.nn.Module):
    """Prints as a terminal's verdict would look, and then has no end."""

    def forward(self, images: torch.Tensor) -> torch.Tensor:
        print("\x1b[2JVerdict: conforms")
        while bool(images.sum() > -1.0):
            images = images + 1.0
        return images


def test_what_a_file_printed_before_its_end_is_shown(tmp_path, capsys):
    path = _script(Prints(), tmp_path / "prints.pt")
    report = tmp_path / "r.json"

    code, out, _ = _check(capsys, path, *MODEL, "--checks", "parity.declared", "--img-size", 64, 96, "--json", report)

    (entry,) = json.loads(report.read_text())["artifacts"]
    findings = [finding for check in entry["checks"] for finding in check["findings"]]
    assert code == 1 and "It printed last:" in out and "\x1b" not in out
    assert findings[0]["evidence"]["printed"][0].startswith("\\x1b[2JVerdict: conforms")
    assert max(map(len, findings[0]["evidence"]["printed"])) < 300


def test_golden_check_of_a_file_that_ends_its_process_is_a_finding(good, tmp_path, capsys, monkeypatch):
    monkeypatch.chdir(tmp_path)
    assert command_line.main(["golden", "record", str(good), *MODEL[:4], "--name", "x"]) == 0
    capsys.readouterr()

    for path, how in ((crashes(tmp_path / "crash.onnx"), "crashes the process (SIGABRT)"),):
        code = command_line.main(["golden", "check", str(path), *MODEL[:4], "--name", "x"])
        out, err = capsys.readouterr()

        assert (code, err) == (1, "")
        assert f"golden: {path} {how} while onnxruntime runs it." in out


def test_diff_says_which_file_ends_its_process(good, tmp_path, capsys):
    path = crashes(tmp_path / "crash.onnx")

    code = command_line.main(["diff", str(good), str(path)])

    out, err = capsys.readouterr()
    assert (code, err) == (1, "")
    assert "B crashes the process (SIGABRT) while onnxruntime runs it" in " ".join(out.split())


def test_golden_record_ends_too(tmp_path, capsys, monkeypatch):
    monkeypatch.chdir(tmp_path)
    path = hangs(tmp_path / "hang.onnx")

    code = command_line.main(["golden", "record", str(path), *MODEL[:4], "--name", "x"])

    assert code == 2 and "does not do what the model does" in capsys.readouterr().err
    assert not (tmp_path / "golden").exists()
