"""The plugin in a user's project: exactly the checks of the files that are named, beside the user's own tests or alone."""

from __future__ import annotations

import json
import os
import subprocess
import sys

import onnx
import pytest

from detparity.core import resources
from detparity.core.vocabulary import parse_variant
from detparity.models.yolov7.seeded import seeded
from detparity.tools.export_cache import export_bytes

ROOT = resources.root()
MODEL = ("--detparity-arch=yolov7-tiny", "--detparity-width=0.25")
OWN = """
import sys

def test_mine():
    import exporters  # of this project: detparity puts nothing of that name on the path
    assert exporters.MINE == 7
"""


@pytest.fixture(scope="module")
def good(tmp_path_factory):
    """A right export of the seeded model."""
    path = tmp_path_factory.mktemp("good") / "best.onnx"
    path.write_bytes(export_bytes(seeded("yolov7-tiny", 0.25, 0), parse_variant("grid"), (64, 96)))
    return path


@pytest.fixture
def project(tmp_path):
    """Call with arguments to run pytest in a folder that knows nothing of detparity; the exit code, and what was printed."""

    def run(*arguments, plugin=("-p", "detparity.cli.pytest_plugin"), cwd=tmp_path):
        words = [sys.executable, "-m", "pytest", "-p", "no:cacheprovider", *plugin, *map(str, arguments)]
        places = {"PYTHONPATH": str(ROOT), "PYTHONDONTWRITEBYTECODE": "1"}
        left_out = {"PYTEST_ADDOPTS", "PYTEST_XDIST_WORKER", "PYTEST_XDIST_WORKER_COUNT", "PYTEST_CURRENT_TEST"}
        environment = {key: value for key, value in os.environ.items() if key not in left_out}
        done = subprocess.run(words, cwd=cwd, env={**environment, **places}, capture_output=True, text=True)
        return done.returncode, done.stdout + done.stderr

    return run


def _broken(good, target):
    model = onnx.load(good)
    model.graph.output[0].type.tensor_type.shape.dim[2].dim_param = "85"
    onnx.save(model, target)
    return target


def test_alone_it_collects_the_checks_of_the_file(project, good, tmp_path):
    code, out = project(f"--detparity-artifact={good}", *MODEL, "--collect-only", "-q")

    assert code == 0, out
    ids = [line for line in out.splitlines() if "::" in line]
    assert {"structure.axes", "parity.declared"} <= {one.split("::")[1] for one in ids}
    assert {one.split("::")[0] for one in ids} == {str(good)}
    assert not [path.name for path in tmp_path.iterdir() if not path.name.startswith(".")]


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


def test_a_violation_is_a_failure_that_says_how_to_repeat_it(project, good, tmp_path):
    path = _broken(good, tmp_path / "broken.onnx")

    code, out = project(f"--detparity-artifact={path.name}", *MODEL, "--detparity-checks=structure.axes")

    assert code == 1
    assert "structure.axes: broken.onnx declares axis 2 of 'output'" in out
    assert (
        "Repeat:  detparity check broken.onnx --arch yolov7-tiny --width 0.25 --seed 0 --checks structure.axes" in out
    )
    assert "checks/run.py" not in out and "pytest_plugin.py" not in out
    assert "FAILED broken.onnx::structure.axes" in out


def test_selection_by_k_and_workers(project, good):
    code, out = project(
        f"--detparity-artifact={good}", *MODEL, "-k", "structure.axes or structure.opset", "-q", "-n", "2"
    )

    assert code == 0 and "2 passed" in out, out


def test_an_unusable_file_is_one_line(project, tmp_path):
    (tmp_path / "empty.onnx").write_bytes(b"")

    code, out = project("--detparity-artifact=empty.onnx", *MODEL)

    assert code == 4 and "Traceback" not in out
    assert "empty.onnx is empty" in out or "empty.onnx is not an ONNX model" in out


def test_without_its_options_it_does_nothing(project, tmp_path):
    (tmp_path / "test_mine.py").write_text(
        "import sys\ndef test_it():\n    assert not {'torch', 'hypothesis', 'onnx', 'numpy'} & set(sys.modules)\n"
    )

    code, out = project(
        "-q", plugin=("-p", "no:hypothesispytest", "-p", "no:benchmark", "-p", "detparity.cli.pytest_plugin")
    )

    assert code == 0 and "detparity:" not in out, out


def test_the_short_options_of_a_clone_select_the_files_checks_alone(project, good):
    code, out = project(
        f"--artifact={good}", "--arch=yolov7-tiny", "--width=0.25", "--checks=structure.axes", "-q", plugin=(), cwd=ROOT
    )

    assert code == 0 and "1 passed" in out, out
