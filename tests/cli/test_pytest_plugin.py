"""The plugin in a user's project: exactly the checks of the files that are named, beside the user's own tests or alone."""

from __future__ import annotations

import gc
import json
import os
import subprocess
import sys
from xml.etree import ElementTree

import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper, numpy_helper

from detparity.core import resources
from detparity.models.yolov7.seeded import seeded
from detparity.tools.export_cache import exported

ROOT = resources.root()
MODEL = ("--detparity-arch=yolov7-tiny", "--detparity-width=0.25")
OWN = """
import sys

def test_mine():
    import exporters  # of this project: detparity puts nothing of that name on the path
    assert exporters.MINE == 7
"""


@pytest.fixture(scope="module")
def good(tmp_path_factory, shared_folder):
    """A right export of the seeded model."""
    path = tmp_path_factory.mktemp("good") / "best.onnx"
    path.write_bytes(exported(seeded("yolov7-tiny", 0.25, 0), "grid", (64, 96), shared_folder).read_bytes())
    return path


PLUGIN = ("-p", "no:cacheprovider", "-p", "detparity.cli.pytest_plugin")
LEFT_OUT = ("PYTEST_ADDOPTS", "PYTEST_XDIST_WORKER", "PYTEST_XDIST_WORKER_COUNT", "PYTEST_CURRENT_TEST")


@pytest.fixture
def project(tmp_path):
    """Call with arguments to run pytest in a folder that knows nothing of detparity; the exit code, and what was printed."""

    def run(*arguments, plugin=PLUGIN, cwd=tmp_path):
        words = [sys.executable, "-m", "pytest", *plugin, *map(str, arguments)]
        places = {"PYTHONPATH": str(ROOT), "PYTHONDONTWRITEBYTECODE": "1"}
        environment = {key: value for key, value in os.environ.items() if key not in LEFT_OUT}
        done = subprocess.run(words, cwd=cwd, env={**environment, **places}, capture_output=True, text=True)
        return done.returncode, done.stdout + done.stderr

    return run


@pytest.fixture
def inside(tmp_path, monkeypatch, capsys):
    """The same in this process, which has imported everything already."""

    def run(*arguments, plugin=PLUGIN, cwd=tmp_path):
        monkeypatch.chdir(cwd)
        for name in LEFT_OUT:
            monkeypatch.delenv(name, raising=False)
        gc.freeze()  # what other tests have left is no garbage of this run, which pytest looks for five times as it ends
        try:
            code = pytest.main([*plugin, f"--rootdir={cwd}", "--import-mode=importlib", *map(str, arguments)])
        finally:
            gc.unfreeze()
        shown = capsys.readouterr()
        return int(code), shown.out + shown.err

    return run


def crashes_in_inference():
    """onnx's shape inference follows a batch_dims of -2^31 out of the shape."""
    image = helper.make_tensor_value_info("images", TensorProto.FLOAT, [1, 3, 64, 96])
    output = helper.make_tensor_value_info("output", TensorProto.FLOAT, [1, 3 * (8 * 12 + 4 * 6 + 2 * 3), 85])
    constants = [
        numpy_helper.from_array(np.zeros((4, 2, 4), np.float32), "d"),
        numpy_helper.from_array(np.zeros(2, np.int64), "i"),
    ]
    nodes = [
        helper.make_node("GatherND", ["d", "i"], ["q"], batch_dims=-(2**31)),
        helper.make_node("Identity", ["images"], ["output"]),
    ]
    graph = helper.make_graph(nodes, "g", [image], [output], constants)
    return helper.make_model(graph, opset_imports=[helper.make_opsetid("", 12)], ir_version=7)


def _broken(good, target):
    model = onnx.load(good)
    model.graph.output[0].type.tensor_type.shape.dim[2].dim_param = "85"
    onnx.save(model, target)
    return target


def test_alone_it_collects_the_checks_of_the_file(inside, good, tmp_path):
    code, out = inside(f"--detparity-artifact={good}", *MODEL, "--collect-only", "-q")

    assert code == 0, out
    ids = [line for line in out.splitlines() if "::" in line]
    assert {"structure.axes", "parity.declared"} <= {one.split("::")[1] for one in ids}
    assert {one.split("::")[0] for one in ids} == {"best.onnx"}  # it lies in another folder
    assert not [path.name for path in tmp_path.iterdir() if not path.name.startswith(".")]


def test_settings_of_the_project_hold_where_the_command_line_has_none(inside, good, tmp_path):
    table = '[tool.detparity]\narch = "yolov7-tiny"\nwidth = 0.25\nchecks = "structure.axes"\nhtml = "report.html"\n'
    (tmp_path / "pyproject.toml").write_text(table)
    code, out = inside(f"--detparity-artifact={good}", "--collect-only")

    assert code == 0 and "detparity: pyproject.toml sets arch, width, checks" in out and "structure.axes" in out
    assert "parity.declared" not in out
    code, out = inside(f"--detparity-artifact={good}", "--detparity-checks=structure.load", "--collect-only")
    assert code == 0 and "sets arch, width\n" in out and "structure.load" in out and "structure.axes" not in out
    (tmp_path / "pyproject.toml").write_text("[tool.detparity]\nweihgts = 1\n")
    code, out = inside(f"--detparity-artifact={good}", "--collect-only")
    assert code == 4 and "has no option 'weihgts'" in out and "Traceback" not in out


def test_pictures_are_one_more_check(inside, good, tmp_path):
    image = pytest.importorskip("PIL.Image")
    (tmp_path / "own").mkdir()
    image.fromarray(np.full((40, 60, 3), 90, np.uint8)).save(tmp_path / "own" / "a.png")
    asked = (f"--detparity-artifact={good}", *MODEL, "--detparity-checks=parity.images", "-q")
    code, out = inside(*asked, "--detparity-images=own")
    assert code == 0 and "1 passed" in out, out
    code, out = inside(*asked, "--detparity-max-images=3")
    assert code == pytest.ExitCode.USAGE_ERROR and "--max-images is of --images, which is not given" in out


def test_beside_the_users_own_tests(project, good, tmp_path):
    (tmp_path / "test_mine.py").write_text(OWN)
    (tmp_path / "exporters.py").write_text("MINE = 7\n")
    report = tmp_path / "report.json"

    code, out = project(
        f"--detparity-artifact={good}", *MODEL, "--detparity-checks=structure", f"--detparity-json={report}", "-q"
    )

    assert code == 0, out
    checks = json.loads(report.read_text())["artifacts"][0]["checks"]
    assert len(checks) > 10 and f"{len(checks) + 1} passed" in out


def test_a_violation_is_a_failure_that_says_how_to_repeat_it(inside, good, tmp_path):
    path = _broken(good, tmp_path / "broken.onnx")

    code, out = inside(f"--detparity-artifact={path.name}", *MODEL, "--detparity-checks=structure.axes")

    assert code == 1
    assert "structure.axes: broken.onnx declares axis 2 of 'output'" in out
    assert (
        "Repeat:  detparity check broken.onnx --arch yolov7-tiny --width 0.25 --seed 0 --checks structure.axes" in out
    )
    assert "checks/run.py" not in out and "pytest_plugin.py" not in out
    assert "FAILED broken.onnx::structure.axes" in out


def test_selection_by_k(inside, good):
    code, out = inside(f"--detparity-artifact={good}", *MODEL, "-k", "structure.axes or structure.opset", "-q")

    assert code == 0 and "2 passed" in out, out


DIES = """
import os, signal
import pytest

@pytest.hookimpl(tryfirst=True)
def pytest_runtest_call(item):
    if item.name == "parity.repeat":
        {how}
"""


def _ending(how, tmp_path, good):
    """A file whose check parity.repeat ends so: for that of its folder's conftest alone."""
    (tmp_path / "conftest.py").write_text(DIES.format(how=how))
    (tmp_path / "other.onnx").write_bytes(good.read_bytes())
    return (
        "--detparity-artifact=other.onnx",
        "--detparity-checks=structure.load,parity.repeat",
        "--detparity-json=report.json",
    )


def test_junit_of_pytest_has_no_records_and_no_absolute_paths(inside, good, tmp_path):
    written = (f"--junitxml={tmp_path / 'j.xml'}", f"--detparity-json={tmp_path / 'r.json'}")

    code, out = inside(
        f"--detparity-artifact={good}", *MODEL, "--detparity-checks=structure.axes,parity.evaluator", *written
    )

    cases = {case.get("name"): case for case in ElementTree.parse(tmp_path / "j.xml").iter("testcase")}
    assert code == 0 and {case.get("classname") for case in cases.values()} == {"best.onnx"}, out
    assert cases["parity.evaluator"].find("skipped").text.startswith("best.onnx:1: the reference evaluator")
    text = (tmp_path / "j.xml").read_text()
    assert str(tmp_path) not in text and str(good.parent) not in text and "sha256" not in text
    assert len(json.loads((tmp_path / "r.json").read_text())["artifacts"][0]["checks"]) == 2


@pytest.mark.more  # six processes
def test_a_worker_that_dies_never_leaves_conforms(project, good, tmp_path):
    pytest.importorskip("xdist")
    words = _ending("os.kill(os.getpid(), signal.SIGKILL)", tmp_path, good)

    code, out = project(*words, f"--detparity-artifact={good}", *MODEL, "-n", "2")

    found = json.loads((tmp_path / "report.json").read_text())
    entries = {entry["path"]: entry for entry in found["artifacts"]}
    assert (code, found["verdict"]) == (1, "incomplete"), out
    assert {path: entry["verdict"] for path, entry in entries.items()} == {
        "other.onnx": "incomplete",
        str(good): "conforms",
    }
    (broken,) = [check for check in entries["other.onnx"]["checks"] if check["outcome"] == "error"]
    assert broken["id"] == "parity.repeat" and "crashed" in broken["reason"] and found["broken"]


def test_nor_does_a_run_that_is_cut_short(inside, good, tmp_path):
    code, out = inside(*_ending("raise KeyboardInterrupt", tmp_path, good), *MODEL)

    (entry,) = json.loads((tmp_path / "report.json").read_text())["artifacts"]
    assert (code, entry["verdict"]) == (2, "incomplete"), out
    assert [check["outcome"] for check in entry["checks"]] == ["passed"]


@pytest.mark.parametrize(
    "workers", [pytest.param(0, id="alone"), pytest.param(2, id="workers", marks=pytest.mark.more)]
)  # with workers: five processes that import torch
def test_a_file_that_crashes_onnx_is_a_finding(workers, inside, project, good, tmp_path):
    if workers:
        pytest.importorskip("xdist")
    onnx.save(crashes_in_inference(), tmp_path / "bad.onnx")
    report = tmp_path / "report.json"

    code, out = (project if workers else inside)(
        "--detparity-artifact=bad.onnx",
        f"--detparity-artifact={good}",
        *MODEL,
        "--detparity-checks=structure.load",
        f"--detparity-json={report}",
        *(("-n", "2") if workers else ()),
    )

    found = {entry["path"]: entry["verdict"] for entry in json.loads(report.read_text())["artifacts"]}
    assert (code, found) == (1, {"bad.onnx": "violates", str(good): "conforms"}), out
    assert "crashes the process (SIGSEGV) while onnx infers shapes" in out and "broken" not in found


def test_an_unusable_file_is_one_line(inside, tmp_path):
    (tmp_path / "empty.onnx").write_bytes(b"")

    code, out = inside("--detparity-artifact=empty.onnx", *MODEL)

    assert code == 4 and "Traceback" not in out
    assert "empty.onnx is empty" in out or "empty.onnx is not an ONNX model" in out


def test_without_its_options_it_does_nothing(project, tmp_path):
    (tmp_path / "test_mine.py").write_text(
        "import sys\ndef test_it():\n    assert not {'torch', 'hypothesis', 'onnx', 'numpy'} & set(sys.modules)\n"
    )

    code, out = project("-q", plugin=(*PLUGIN, "-p", "no:hypothesispytest", "-p", "no:benchmark"))

    assert code == 0 and "detparity:" not in out, out


def test_the_short_options_of_a_clone_select_the_files_checks_alone(inside, good):
    code, out = inside(
        f"--artifact={good}",
        "--arch=yolov7-tiny",
        "--width=0.25",
        "--checks=structure.axes",
        "-q",
        plugin=PLUGIN[:2],
        cwd=ROOT,
    )

    assert code == 0 and "1 passed" in out, out
