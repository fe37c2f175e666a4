"""What a terminal shows, and that what is piped stays as it is: no control characters, the same text for every width."""

from __future__ import annotations

import io
import os
import re
import subprocess
import sys
import time

import pytest

from detparity.cli import main
from detparity.cli.console import CLEAR, Console
from detparity.core.clock import began
from detparity.core.findings import Outcome
from detparity.reports.style import fitted, painted
from detparity.reports.terminal import headline

ESCAPE = re.compile("\x1b\\[[0-9;]*[mK]")
REPORT = """\
a/very/long/folder/name/best.onnx: violates against a/very/long/folder/name/best.pt, 20 of 28 checks
  grid-dynamic, read from the file, at 320x320, opset 12 by default

  check                 outcome
  structure.*           passed   15: checker, load, opset, ir-version, inputs, outputs, inferred, shapes, initializers
  structure.baked-size  FAILED   has the grid of 320x320 baked in as 3 constants, so it decodes at no other size.

structure.baked-size: best.onnx has the grid of 320x320 baked in as 3 constants, so it decodes at no
other size.

  Fix:     Compute the grid inside forward from the tensor's own shape, export again, and simplify
           without a fixed input shape.
  Repeat:  detparity check a/very/long/folder/name/best.onnx --weights a/very/long/folder/name/best.pt --checks structure
"""


class _Terminal(io.StringIO):
    def isatty(self):
        return True


@pytest.fixture
def terminal(monkeypatch):
    for name in ("NO_COLOR", "TERM"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("COLUMNS", "60")
    return _Terminal(), _Terminal()


def _entry(path, verdict="conforms", **check):
    found = {"id": "parity.sizes", "level": "MUST", "outcome": "passed", "findings": [], "reason": None, **check}
    return {"path": path, "verdict": verdict, "how": "grid", "checks": [found], "timings": {"total_seconds": 2.0}}


def _report(*entries):
    timings = {"total_seconds": 3.0, "engine_seconds": 1.0}
    worst = entries[-1]["verdict"]
    return {"artifacts": list(entries), "verdict": worst, "strict": False, "subject": {"name": "m"}, "timings": timings}


FAILS = {"outcome": "failed", "findings": [{"level": "MUST", "message": "is wrong.", "text": "parity.sizes: x"}]}


def test_text_is_fitted_to_the_width_and_a_command_remains_one_line():
    shown = fitted(REPORT, 60)

    assert all(len(line) <= 60 for line in shown.splitlines() if "Repeat:" not in line)
    assert " ".join(shown.split()) == " ".join(REPORT.split())
    assert "best.onnx has the grid of 320x320\nbaked in" in shown  # paragraphs wrap anew
    assert re.search(r"FAILED   has the grid.*\n {33}\S", shown)  # a last column under itself
    assert fitted(REPORT, 200) == REPORT


def test_colours_change_nothing_but_colours():
    shown = painted(REPORT)

    assert ESCAPE.sub("", shown) == REPORT
    for word in ("violates", "passed", "FAILED"):
        assert f"m{word}\x1b[0m" in shown
    assert painted("  violates  3 of 4  1.0  x: passed").count("\x1b[") == 2  # the verdict alone


@pytest.mark.parametrize(
    "options, variable, coloured",
    [
        ({}, None, True),
        ({}, "NO_COLOR", False),
        ({"color": "never"}, None, False),
        ({"color": "always"}, "NO_COLOR", True),
    ],
)
def test_colour_is_for_terminals_and_options_decide(terminal, monkeypatch, options, variable, coloured):
    if variable:
        monkeypatch.setenv(variable, "1")
    out, _ = terminal
    Console(options, out)("a.onnx: violates")

    assert ("\x1b[31m" in out.getvalue()) == coloured
    piped = io.StringIO()
    Console({**options, "color": options.get("color", "auto")}, piped)("a.onnx: violates")
    assert ("\x1b[31m" in piped.getvalue()) == (options.get("color") == "always")


def test_one_line_of_progress_is_rewritten_and_gone_at_the_end(terminal, monkeypatch):
    out, err = terminal
    monkeypatch.setattr(sys, "stderr", err)  # here, since pytest sets its own between a fixture and its test
    with Console({}, out) as console:
        console.files(2, 3)
        with console.checks("a-file-with-a-name-that-is-longer-than-forty.onnx", ["parity.sizes"]) as step:
            step(Outcome("parity.sizes", "MUST", "passed", seconds=1.2))
        console("a.onnx: conforms")
    drawn = err.getvalue().split(CLEAR)

    assert any(re.match(r"\[2/3\] a-file.*\.\.\.: check 1 of 1", line) for line in drawn) and max(map(len, drawn)) < 60
    assert drawn[-1] == "" and "\n" not in err.getvalue()
    assert ESCAPE.sub("", out.getvalue()) == "a.onnx: conforms\n"


def test_elsewhere_progress_is_a_line_a_check_and_only_on_request(monkeypatch):
    for options, lines in (({"verbose": True}, 1), ({}, 0), ({"quiet": True}, 0)):
        err, out = io.StringIO(), io.StringIO()
        monkeypatch.setattr(sys, "stderr", err)
        with Console(options, out) as console, console.checks("a.onnx", ["parity.sizes", "parity.batches"]) as step:
            step(Outcome("parity.sizes", "MUST", "passed", seconds=1.24))

        assert err.getvalue().splitlines() == ["a.onnx: check 1 of 2, parity.sizes: passed, 1.2 s"][:lines]


def test_pictures_show_on_the_line_and_in_tenths_on_request(terminal, monkeypatch):
    out, err = terminal
    monkeypatch.setattr(sys, "stderr", err)
    with Console({}, out) as console, console.checks("a.onnx", ["parity.images"]):
        console.picture(7, 40)
    assert any(
        line.startswith("a.onnx: check 1 of 1, parity.images, picture 7 of 40, ")
        for line in err.getvalue().split(CLEAR)
    )

    monkeypatch.setattr(sys, "stderr", io.StringIO())
    with Console({"verbose": True}, io.StringIO()) as console, console.checks("a.onnx", ["parity.images"]):
        for number in range(1, 41):
            console.picture(number, 40)
        lines = sys.stderr.getvalue().splitlines()
    assert lines == [f"a.onnx: picture {number} of 40" for number in range(4, 41, 4)]


def test_several_files_end_in_a_table_where_somebody_looks(terminal):
    entries = [_entry("a.onnx"), _entry("b.onnx", "violates", **FAILS)]
    out, piped = terminal[0], io.StringIO()
    for stream in (out, piped):
        Console({"color": "never"}, stream).summary(_report(*entries))

    shown = " ".join(out.getvalue().split())
    assert "verdict checks seconds file conforms 1 of 1 2.0 a.onnx violates 1 of 1 2.0 b.onnx: parity.sizes" in shown
    assert piped.getvalue().startswith("Verdict: violates") and piped.getvalue().count("\n") == 1


def test_quiet_is_one_line_a_file():
    assert headline(_entry("b.onnx", "violates", **FAILS)) == "b.onnx: violates, 1 of 1 checks: parity.sizes"
    unusable = {"path": "c", "verdict": "unusable", "reason": "it is empty", "checks": []}
    assert headline(unusable) == "c: unusable, it is empty"


def test_seconds_are_those_of_the_command():
    age = time.monotonic() - began(True)

    assert age > 0.05 or not os.path.exists("/proc/self/stat")  # this process imported pytest and more
    assert time.monotonic() - began(False) < age + 1


@pytest.mark.skipif(not hasattr(os, "openpty"), reason="a system without pseudo-terminals")
def test_a_real_terminal_sees_colour_and_a_pipe_does_not(tmp_path):
    (tmp_path / "a.txt").write_text("no model")
    command = [sys.executable, "-m", "detparity.cli.main", "check", str(tmp_path / "a.txt"), "--model", "bundled"]
    environment = {k: v for k, v in os.environ.items() if k not in ("NO_COLOR", "COLUMNS")}
    ours, theirs = os.openpty()
    done = subprocess.run(command, stdout=theirs, stderr=theirs, env={**environment, "TERM": "xterm"})
    seen = os.read(ours, 100_000).decode()
    os.close(ours)
    os.close(theirs)
    piped = subprocess.run(command, capture_output=True, env=environment)

    assert done.returncode == piped.returncode == 2
    assert "\x1b[31munusable\x1b[0m" in seen
    assert b"\x1b" not in piped.stdout and piped.stderr == b""


def test_options_of_display_are_known():
    assert main.main(["check", "none.onnx", "--color", "sometimes"]) == 2
