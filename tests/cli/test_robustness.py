"""Whatever happens around a verdict is one line and an exit code: outputs that cannot be written, options that are mistyped, signals,
names that a terminal cannot show, errors of our own. Nothing is lost, and nothing is left behind."""

from __future__ import annotations

import contextlib
import io
import json
import os
import signal
import stat
import subprocess
import sys
import time
from pathlib import Path
from xml.etree import ElementTree

import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper, numpy_helper

from detparity.cli import main as command_line
from detparity.core import files, resources
from detparity.core.errors import InputError
from detparity.models.yolov7.seeded import seeded
from detparity.tools.export_cache import exported

MODEL = ("--arch", "yolov7-tiny", "--width", "0.25")
QUICK = ("--checks", "structure.axes")
posix = pytest.mark.skipif(os.name != "posix", reason="devices, pipes and signals of POSIX")


@pytest.fixture(scope="module")
def made(tmp_path_factory, shared_folder):
    path = tmp_path_factory.mktemp("made") / "best.onnx"
    path.write_bytes(exported(seeded("yolov7-tiny", 0.25, 0), "grid", (64, 96), shared_folder).read_bytes())
    return path


@pytest.fixture
def best(made, tmp_path, monkeypatch):
    """A right export in the current folder, which is otherwise empty."""
    monkeypatch.chdir(tmp_path)
    (tmp_path / "best.onnx").write_bytes(made.read_bytes())
    return tmp_path / "best.onnx"


def _run(capsys, *words):
    """Exit code, stdout and stderr of the command in this process."""
    capsys.readouterr()
    code = command_line.main([str(word) for word in words])
    out, err = capsys.readouterr()
    return code, out, err


def _one_line(code, err, *, says):
    assert code == 2
    assert err.startswith("detparity: ") and err.count("\n") == 1 and "Traceback" not in err, err
    assert says in err


# --- outputs --------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("option", ["--json", "--html", "--junit"])
def test_an_output_is_never_an_input(option, best, capsys):
    before = best.read_bytes()

    code, _, err = _run(capsys, "check", best, *MODEL, *QUICK, option, best)

    _one_line(code, err, says="it is one of the files that are read")
    assert best.read_bytes() == before


def test_nor_the_file_of_known_failures(best, capsys, tmp_path):
    known = tmp_path / "known.toml"
    known.write_text("format = 2\n")

    code, _, err = _run(capsys, "check", best, *MODEL, *QUICK, "--expectations", known, "--json", known)

    _one_line(code, err, says="it is one of the files that are read")
    assert known.read_text() == "format = 2\n"


def test_nor_the_tensors_beside_an_onnx_file(best, capsys, tmp_path):
    model = onnx.load(best)
    onnx.save_model(model, tmp_path / "out.onnx", save_as_external_data=True, location="out.bin", size_threshold=64)
    before = (tmp_path / "out.bin").read_bytes()

    code, _, err = _run(capsys, "check", "out.onnx", *MODEL, *QUICK, "--json", "out.bin")

    _one_line(code, err, says="it is one of the files that are read")
    assert (tmp_path / "out.bin").read_bytes() == before


@pytest.mark.parametrize("command", ["check", "locate"])
@pytest.mark.parametrize("option", ["--against", "--layout", "--model"])
def test_nor_what_it_is_judged_against(command, option, best, capsys, tmp_path):
    other = tmp_path / "other.py"
    other.write_bytes(best.read_bytes())
    against = ["--against", "self"] if option == "--layout" else []
    named = f"{other}:Net" if option == "--model" else other

    code, _, err = _run(capsys, command, best, *against, option, named, "--json", other)

    _one_line(code, err, says="it is one of the files that are read")
    assert other.read_bytes() == best.read_bytes()


def test_export_does_not_overwrite_its_own_checkpoint(capsys, tmp_path, monkeypatch):
    from detparity.models.choice import bundled_weights

    monkeypatch.chdir(tmp_path)
    weights = tmp_path / "w.onnx"
    weights.write_bytes(bundled_weights().read_bytes())

    code, _, err = _run(capsys, "export", "--weights", weights, "--include", "onnx", "--img-size", 64, 96, "--force")

    _one_line(code, err, says="it is one of the files that are read")
    assert weights.read_bytes() == bundled_weights().read_bytes()


def test_export_overwrites_on_request_alone(capsys, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    words = ("export", *MODEL, "--include", "onnx", "--img-size", 64, 96)
    code, out, _ = _run(capsys, *words)
    (path,) = tmp_path.glob("*.onnx")
    path.write_bytes(b"mine")

    again, _, err = _run(capsys, *words)
    forced, _, _ = _run(capsys, *words, "--force")

    assert code == 0 and out.splitlines()[-1] == f"check them:  detparity check {path.name} {' '.join(MODEL)} --seed 0"
    _one_line(again, err, says="is there already: --force overwrites it")
    assert forced == 0 and path.stat().st_size > 1000


def test_export_writes_nothing_unless_it_can_write_all(capsys, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr("detparity.cli.export.importlib.util.find_spec", lambda name: None)

    code, _, err = _run(capsys, "export", *MODEL, "--simplify", "--img-size", 64, 96)

    _one_line(code, err, says="pip install 'detparity[simplify]'")
    assert list(tmp_path.iterdir()) == []


@posix
def test_a_device_is_written_through(best, capsys, tmp_path):
    pipe = tmp_path / "pipe"
    os.mkfifo(pipe)
    with subprocess.Popen(["cat", str(pipe)], stdout=subprocess.PIPE, text=True) as reader:
        code, _, _ = _run(capsys, "check", best, *MODEL, *QUICK, "--json", pipe)
        assert reader.stdout is not None
        found = json.loads(reader.stdout.read())

    assert code == 0 and found["verdict"] == "conforms"
    assert stat.S_ISFIFO(pipe.stat().st_mode)


@pytest.mark.skipif(not os.path.exists("/dev/full"), reason="needs /dev/full")
def test_a_full_disk_is_one_line_and_the_other_reports_are_written(best, capsys, tmp_path):
    code, out, err = _run(
        capsys, "check", best, *MODEL, *QUICK, "--html", "/dev/full", "--json", "r.json", "--junit", "r.xml"
    )

    _one_line(code, err, says="cannot write /dev/full: No space left on device")
    assert "Verdict: conforms" in out
    assert json.loads((tmp_path / "r.json").read_text())["verdict"] == "conforms"
    assert ElementTree.parse(tmp_path / "r.xml").getroot().tag == "testsuites"


def test_a_file_that_cannot_be_finished_is_not_there(tmp_path, monkeypatch):
    def full(temporary):
        temporary.write_bytes(b"half")
        raise OSError(28, "No space left on device")

    with pytest.raises(InputError, match=r"cannot write .*: No space left on device"):
        files.write_atomic(tmp_path / "r.json", full)

    assert list(tmp_path.iterdir()) == []


def test_a_report_on_stdout_is_all_that_is_there(best, capsys):
    code, out, err = _run(capsys, "check", best, *MODEL, *QUICK, "--json", "-")

    assert code == 0 and json.loads(out)["verdict"] == "conforms" and "Verdict: conforms" in err


@pytest.mark.parametrize("option", ["--json", "--html", "--junit"])
def test_a_missing_folder_is_known_before_the_work(option, best, capsys, monkeypatch):
    monkeypatch.setattr("detparity.cli.check.require_one_file", lambda paths: pytest.fail("the work has begun"))

    code, _, err = _run(capsys, "check", best, *MODEL, option, "missing/r")

    _one_line(code, err, says="its folder does not exist")


def test_nothing_is_left_in_the_current_folder(best, capsys, tmp_path):
    code, _, _ = _run(capsys, "check", best, *MODEL, "--quick")

    assert code == 0
    assert [path.name for path in tmp_path.iterdir()] == ["best.onnx"]


# --- options --------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "words, says",
    [
        (["chek"], "there is no command 'chek'; did you mean check?"),
        (["check", "x.onnx", "--weigths", "w.pt"], "did you mean --weights?"),
        (["golden", "recrod"], "did you mean record?"),
        (["export", "--inclde", "onnx"], "did you mean --include?"),
        (["check", "x.onnx", "--zzz"], "unrecognized arguments: --zzz (`detparity check --help`"),
    ],
)
def test_a_mistyped_word_is_named_with_the_nearest(words, says, capsys):
    code, _, err = _run(capsys, *words)

    _one_line(code, err, says=says)


def test_alone_it_prints_its_help(capsys):
    with pytest.raises(SystemExit) as ended:
        command_line.main([])

    assert ended.value.code == 0 and "judge exported files" in capsys.readouterr().out


def test_a_missing_file_is_known_before_anything_is_imported(tmp_path):
    code = "import sys; from detparity.cli.main import main; c = main(['check', 'no.onnx']); print(c, 'torch' in sys.modules)"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, cwd=tmp_path, env=_places())

    assert done.stdout.split() == ["2", "False"] and done.stderr == "detparity: no.onnx: no such file\n"


POINTER = b"version https://git-lfs.github.com/spec/v1\noid sha256:" + b"0" * 64 + b"\nsize 74922183\n"
FOREIGN = {"best.onnx": POINTER, "best.tflite": b"\x1c\x00\x00\x00TFL3" + bytes(512), "no.onnx": None}


def test_foreign_files_are_named_before_anything_is_imported(tmp_path):
    for name, content in FOREIGN.items():
        if content is not None:
            (tmp_path / name).write_bytes(content)
    code = "import sys; from detparity.cli.main import main; c = main(['check', *sys.argv[1:]]); print(c, 'torch' in sys.modules)"
    words = [sys.executable, "-c", code, *FOREIGN]
    done = subprocess.run(words, capture_output=True, text=True, cwd=tmp_path, env=_places())

    assert done.stdout.splitlines()[-1] == "2 False" and done.stderr == ""
    assert "best.onnx: unusable\n  best.onnx is a Git LFS pointer to a file of 74922183 bytes" in done.stdout
    assert "best.tflite is a TensorFlow Lite file" in done.stdout and "no.onnx: no such file" in done.stdout
    assert "Verdict: unusable (3 unusable of 3 files; " in done.stdout


def test_beside_a_right_file_they_are_named_the_same(best, capsys):
    (best.parent / "pointer.onnx").write_bytes(POINTER)

    code, out, _ = _run(capsys, "check", "pointer.onnx", best, *MODEL, *QUICK, "--json", "r.json")

    assert code == 2 and "pointer.onnx: unusable\n  pointer.onnx is a Git LFS pointer" in out
    assert [entry["verdict"] for entry in json.loads((best.parent / "r.json").read_text())["artifacts"]] == [
        "conforms",
        "unusable",
    ]


def test_a_size_that_a_static_file_does_not_take_is_named(best, capsys):
    code, out, _ = _run(capsys, "check", best, *MODEL, "--img-size", 64, 64)

    assert code == 2 and "--img-size 64x64: " in out and "takes 64x96 alone" in out


# --- bounds ---------------------------------------------------------------------------------------------------------


def _declaring(path, batch, height, width):
    """A file of a few bytes that declares this input."""
    rows = 3 * sum((height // s) * (width // s) for s in (8, 16, 32))
    image = helper.make_tensor_value_info("images", TensorProto.FLOAT, [batch, 3, height, width])
    output = helper.make_tensor_value_info("output", TensorProto.FLOAT, [batch, rows, 85])
    nodes = [
        helper.make_node("ReduceMean", ["images"], ["mean"]),
        helper.make_node("Expand", ["mean", "shape"], ["output"]),
    ]
    shape = numpy_helper.from_array(np.array([batch, rows, 85], np.int64), "shape")
    model = helper.make_model(helper.make_graph(nodes, "g", [image], [output], [shape]), ir_version=7)
    model.opset_import[0].version = 12
    onnx.save(model, path)


@pytest.mark.parametrize("batch, height, width", [(10**6, 64, 64), (1, 8192, 8192)])
def test_a_size_that_needs_more_memory_than_there_is_is_refused(batch, height, width, capsys, tmp_path, monkeypatch):
    monkeypatch.setattr("detparity.core.environment.memory_bytes", lambda: 16 * 10**9)
    _declaring(tmp_path / "large.onnx", batch, height, width)
    start = time.perf_counter()

    code, out, _ = _run(capsys, "check", tmp_path / "large.onnx", *MODEL)

    assert code == 2 and f"a batch of {batch} at {height}x{width} needs about" in out
    assert time.perf_counter() - start < 60


# --- names and characters -------------------------------------------------------------------------------------------


def test_what_a_file_says_cannot_move_the_cursor(best, capsys):
    model = onnx.load(best)
    model.graph.output[0].name = "out\x1b[2Jput"
    for node in model.graph.node:
        node.output[:] = ["out\x1b[2Jput" if name == "output" else name for name in node.output]
    onnx.save(model, best)

    code, out, err = _run(
        capsys, "check", best, *MODEL, "--checks", "structure", "--junit", "r.xml", "--html", "r.html"
    )

    assert code == 1 and "\x1b" not in out + err and "\\x1b[2J" in out
    assert "\x1b" not in (best.parent / "r.xml").read_text() + (best.parent / "r.html").read_text()


@pytest.mark.parametrize("word", ["--name", "--variant", "--arch"])
def test_nor_can_an_option(word, best, capsys):
    words = ("golden", "record", best) if word == "--name" else ("check", best)

    code, _, err = _run(capsys, *words, word, "\x1b[2J")

    assert code == 2 and "\x1b" not in err


@posix
@pytest.mark.parametrize("name, encoding", [(b"best-\xff.onnx", "utf-8"), ("\u6a21\u578b.onnx".encode(), "ascii")])
def test_any_file_name_is_reported(name, encoding, best, monkeypatch):
    os.rename(best, name)
    printed = [io.BytesIO(), io.BytesIO()]
    errors = ("strict", "backslashreplace")  # as Python opens them
    for stream, raw, how in zip(("stdout", "stderr"), printed, errors):
        monkeypatch.setattr(sys, stream, io.TextIOWrapper(raw, encoding, how, write_through=True))

    code = command_line.main(["check", os.fsdecode(name), *MODEL, *QUICK, "--json", "r.json"])

    out, err = (raw.getvalue() for raw in printed)
    assert code == 0, err
    assert b"Verdict: conforms" in out and b"Traceback" not in err
    assert json.loads((best.parent / "r.json").read_text())["verdict"] == "conforms"


# --- the end --------------------------------------------------------------------------------------------------------


def _places():
    return {**os.environ, "PYTHONPATH": str(resources.root())}


@posix
@pytest.mark.parametrize(
    "number, code, says",
    [
        pytest.param(signal.SIGINT, 130, "interrupted", marks=pytest.mark.more),  # as below, at another moment
        (signal.SIGTERM, 143, "terminated"),
    ],
)
def test_a_signal_is_one_line_and_leaves_nothing(number, code, says, best, tmp_path):
    scratch = tmp_path / "scratch"
    scratch.mkdir()
    words = [sys.executable, "-m", "detparity.cli.main", "check", "best.onnx", *MODEL]
    environment = {**_places(), "TMPDIR": str(scratch)}
    streams = {"stdout": subprocess.PIPE, "stderr": subprocess.PIPE, "text": True, "preexec_fn": interruptible}
    with subprocess.Popen(words, env=environment, **streams) as process:
        until = time.monotonic() + 60
        while not list(scratch.glob("detparity-child-*")) and time.monotonic() < until:
            time.sleep(0.01)
        time.sleep(0.1)
        process.send_signal(number)
        _, err = process.communicate(timeout=60)

    assert process.returncode == code
    assert err == f"detparity: {says}\n"
    assert list(scratch.iterdir()) == []


@pytest.mark.skipif(not os.path.exists("/proc/self/stat"), reason="needs /proc")
def test_a_signal_while_a_file_runs_ends_the_child_too(tmp_path):
    """The file has no end; its process does."""
    scratch = tmp_path / "scratch"
    scratch.mkdir()
    onnx.save(endless(), tmp_path / "endless.onnx")
    words = [sys.executable, "-m", "detparity.cli.main", "check", "endless.onnx", *MODEL, "--checks", "parity.declared"]
    places = {**_places(), "TMPDIR": str(scratch), "PYTHONPATH": str(resources.root())}
    streams = {"stdout": subprocess.PIPE, "stderr": subprocess.PIPE, "text": True, "preexec_fn": interruptible}
    with subprocess.Popen(words, env=places, cwd=tmp_path, **streams) as process:
        children = _within(90, lambda: _busy(process.pid))
        process.send_signal(signal.SIGINT)
        _, err = process.communicate(timeout=60)

    assert children and (process.returncode, err) == (130, "detparity: interrupted\n")
    assert _within(10, lambda: not any(os.path.exists(f"/proc/{child}") for child in children))
    assert list(scratch.iterdir()) == []


def interruptible():
    """Take SIGINT, which a process started in the background ignores."""
    signal.signal(signal.SIGINT, signal.default_int_handler)


def endless():
    """A Loop of 2^60 steps."""
    values = {"i": TensorProto.INT64, "c": TensorProto.BOOL, "v": TensorProto.FLOAT}
    ends = {"c_out": TensorProto.BOOL, "v_out": TensorProto.FLOAT}
    body = helper.make_graph(
        [helper.make_node("Identity", ["c"], ["c_out"]), helper.make_node("Add", ["v", "v"], ["v_out"])],
        "body",
        [helper.make_tensor_value_info(name, kind, []) for name, kind in values.items()],
        [helper.make_tensor_value_info(name, kind, []) for name, kind in ends.items()],
    )
    constants = {"count": np.array(2**60), "go": np.array(True), "start": np.array(0, np.float32)}
    dims = [1, 3 * (8 * 12 + 4 * 6 + 2 * 3), 85]
    constants["shape"] = np.array(dims, np.int64)
    nodes = [
        helper.make_node("Loop", ["count", "go", "start"], ["extra"], body=body),
        helper.make_node("ReduceMean", ["images"], ["mean"], keepdims=0),
        helper.make_node("Add", ["mean", "extra"], ["sum"]),
        helper.make_node("Expand", ["sum", "shape"], ["output"]),
    ]
    graph = helper.make_graph(
        nodes,
        "g",
        [helper.make_tensor_value_info("images", TensorProto.FLOAT, [1, 3, 64, 96])],
        [helper.make_tensor_value_info("output", TensorProto.FLOAT, dims)],
        [numpy_helper.from_array(value, name) for name, value in constants.items()],
    )
    return helper.make_model(graph, opset_imports=[helper.make_opsetid("", 12)], ir_version=7)


def _within(seconds, ask):
    """What `ask` gives as soon as that is something."""
    until = time.monotonic() + seconds
    while time.monotonic() < until:
        found = ask()
        if found:
            return found
        time.sleep(0.05)
    raise AssertionError("it did not come to that")


def _busy(parent):
    """The child process and its worker, once the worker has computed for a second."""
    rows = {}
    for path in Path("/proc").glob("[0-9]*/stat"):
        with contextlib.suppress(OSError):
            fields = path.read_text().rpartition(")")[2].split()
            rows[int(path.parent.name)] = int(fields[1]), (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")
    servers = [one for one, (above, _) in rows.items() if above == parent]
    workers = [one for one, (above, spent) in rows.items() if above in servers and spent > 1.0]
    return [*servers, *workers] if workers else []


def test_an_error_of_our_own_is_one_line_and_a_trace(capsys, monkeypatch, tmp_path):
    monkeypatch.setenv("TMPDIR", str(tmp_path))
    monkeypatch.setattr("tempfile.tempdir", str(tmp_path))
    monkeypatch.setattr("detparity.cli.checks.registry", lambda: 1 / 0, raising=False)
    monkeypatch.setattr("detparity.checks.registry", lambda: 1 / 0)

    code, _, err = _run(capsys, "checks")

    assert code == 70 and err.count("\n") == 1
    assert "internal error (ZeroDivisionError: division by zero)" in err
    (trace,) = tmp_path.glob("detparity-error-*.txt")
    assert str(trace) in err and "Traceback" in trace.read_text()


@pytest.mark.parametrize(
    "error, says",
    [
        (OSError(28, "No space left on device", "x"), "the system refuses to go on: x: No space left on device"),
        (MemoryError(), "this needs more memory than there is"),
    ],
)
def test_what_the_system_refuses_is_one_line(error, says, capsys, monkeypatch):
    def refuse():
        raise error

    monkeypatch.setattr("detparity.checks.registry", refuse)

    code, _, err = _run(capsys, "checks")

    _one_line(code, err, says=says)
