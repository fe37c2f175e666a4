"""`detparity capture -- COMMAND`: the command is what it is without, and its exports are judged."""

import subprocess
import sys
from pathlib import Path

import pytest
import torch

from detparity.cli import capture_command
from detparity.core import resources
from detparity.core.errors import InputError

NEW = tuple(map(int, torch.__version__.split(".")[:2]))
pytestmark = pytest.mark.skipif(NEW < (1, 13), reason="capture is for torch 1.13 and newer")

SCRIPT = """
import os, sys
print(sys.argv, sys.path[0], __name__, __file__, "torch" in sys.modules, "numpy" in sys.modules, "onnx" in sys.modules)
what = sys.argv[1]
if what in ("export", "raise", "swallow"):
    import torch
    model = torch.nn.Sequential(torch.nn.Conv2d(3, 4, 3), torch.nn.Flatten(2)).eval()
    options = {"dynamo": False} if hasattr(torch.onnx, "ONNXProgram") else {}
    images = torch.zeros(1, 2) if what in ("raise", "swallow") else torch.zeros(1, 3, 8, 8)
    try:
        torch.onnx.export(model, images, "model.onnx", input_names=["images"], output_names=["output"], **options)
    except Exception as error:
        if what == "raise":
            raise
        print("export failure:", type(error).__name__)
if what == "exit":
    sys.exit(5)
if what == "text":
    sys.exit("a text")
if what == "abrupt":
    os._exit(0)
if what == "killed":
    os.kill(os.getpid(), 9)
if what == "thread":
    import threading, time
    threading.Thread(target=lambda: (time.sleep(0.3), print("later"))).start()
"""


@pytest.fixture
def script(tmp_path):
    path = tmp_path / "export.py"
    path.write_text(SCRIPT)
    return path


def run(*words, cwd):
    environment = {"PYTHONPATH": str(resources.root()), "PATH": str(Path(sys.executable).parent), "HOME": str(cwd)}
    return subprocess.run(words, cwd=str(cwd), capture_output=True, text=True, env=environment, timeout=200)


def captured(*words, cwd, options=()):
    return run(sys.executable, "-m", "detparity.cli.main", "capture", *options, "--", *words, cwd=cwd)


@pytest.mark.parametrize(
    "what, code, shown",
    [
        ("raise", 1, "raised RuntimeError"),
        pytest.param("swallow", 1, "the script went on and no file was written", marks=pytest.mark.more),
        pytest.param("exit", 5, "exported nothing that was seen", marks=pytest.mark.more),
        ("text", 1, "exported nothing that was seen"),
        ("thread", 3, "exported nothing that was seen"),
    ],
)
def test_the_command_is_what_it_is_without(script, what, code, shown):
    bare = run(sys.executable, "export.py", what, cwd=script.parent)
    found = captured(sys.executable, "export.py", what, cwd=script.parent)

    assert found.returncode == code
    assert found.stdout.startswith(bare.stdout) and shown in found.stdout[len(bare.stdout) :]
    assert found.stderr == bare.stderr


@pytest.mark.parametrize("what, code", [("abrupt", 3), ("killed", 137)])
def test_a_command_that_ends_itself_has_no_verdict(script, what, code):
    found = captured(sys.executable, "export.py", what, cwd=script.parent)

    assert found.returncode == code
    assert "before its captures could be judged" in found.stderr


def test_a_file_is_judged_against_the_module_of_its_call(script):
    options = ("--checks", "structure.names,parity.declared", "--json", "report.json", "--keep", "stored")
    found = captured(sys.executable, "export.py", "export", cwd=script.parent, options=options)

    assert found.returncode == 0, found.stdout + found.stderr
    assert "as asked by torch.onnx.export" in found.stdout and "Verdict: conforms" in found.stdout
    assert (script.parent / "report.json").exists() and (script.parent / "stored" / "captures.json").exists()


BROKEN_LATER = """
import numpy as np, onnx, torch
from onnx import numpy_helper
torch.manual_seed(0)
model = torch.nn.Sequential(torch.nn.Conv2d(3, 4, 3), torch.nn.Flatten(2)).eval()
options = {"dynamo": False} if hasattr(torch.onnx, "ONNXProgram") else {}
torch.onnx.export(model, torch.zeros(1, 3, 8, 8), "m.onnx", input_names=["images"], output_names=["output"], **options)
graph = onnx.load("m.onnx")
weight = next(one for one in graph.graph.initializer if len(one.dims) == 4)
weight.CopyFrom(numpy_helper.from_array(numpy_helper.to_array(weight) * np.float32(1.01), weight.name))
onnx.save(graph, "m.onnx")
"""


def test_a_step_after_the_export_that_breaks_the_file_is_named(tmp_path):
    (tmp_path / "export.py").write_text(BROKEN_LATER)
    found = captured(sys.executable, "export.py", cwd=tmp_path, options=("--quick",))

    assert found.returncode == 1
    assert "m.onnx was right as torch.onnx.export wrote it: a later step of the command broke it." in found.stdout


def test_a_module_of_a_package(tmp_path):
    (tmp_path / "mine.py").write_text("import sys; print(sys.argv, sys.path[0], __name__)")
    bare = run(sys.executable, "-m", "mine", "a", cwd=tmp_path)

    assert captured(sys.executable, "-m", "mine", "a", cwd=tmp_path).stdout.startswith(bare.stdout)


def test_a_console_script_is_found_by_its_entry_point():
    found = capture_command.command_of(["pytest", "--version"])

    assert (found.sort, found.arguments) == ("entry", ("--version",)) and "pytest" in found.target


def test_options_of_the_interpreter_are_passed_on(tmp_path):
    (tmp_path / "a.py").write_text("")
    found = capture_command.command_of([sys.executable, "-u", "-W", "ignore", str(tmp_path / "a.py"), "-x"])

    assert found.interpreter == ("-u", "-W", "ignore") and found.arguments == ("-x",)


@pytest.mark.parametrize(
    "words, text",
    [
        ([], "no command"),
        (["no-such-command-at-all"], "there is no command"),
        (["ls"], "no Python command"),
        ([sys.executable], "from the terminal"),
        ([sys.executable, "absent.py"], "no script absent.py"),
        ([sys.executable, "-m"], "needs an argument"),
        ([sys.executable, "--check-hash-based-pycs", "default", "a.py"], "cannot be used"),
    ],
)
def test_what_is_no_command_of_this_environment_is_refused(words, text):
    with pytest.raises(InputError, match=text):
        capture_command.command_of(words)
