"""What capture adds to an export: beside its copies of module and file, and to the start of a command.

    pytest benchmarks/test_capture_cost.py -m slow -s

Seconds are those of the processor, up to the end of the script: the verdict that follows is not an overhead. Bare and captured exports
take turns. A benchmark: it prints what docs/performance.md quotes.
"""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
import time
import warnings
from pathlib import Path

import numpy as np
import pytest

torch = pytest.importorskip("torch", minversion="1.13")

from detparity.models.capture import capturing  # noqa: E402
from detparity.models.module_copy import copied  # noqa: E402
from detparity.models.yolov7.seeded import seeded  # noqa: E402

ROUNDS, PAIRS = 7, 7
SCRIPT = """
import os, sys, time
import torch
torch.onnx.export(torch.nn.Conv2d(3, 8, 3).eval(), (torch.zeros(1, 3, 32, 32),), "best.onnx", {legacy})
own = time.process_time()
with open(f"/proc/{{os.getppid()}}/stat") as stream:
    words = stream.read().rpartition(")")[2].split()
parent = sum(map(int, words[11:13])) / os.sysconf("SC_CLK_TCK")
print(own, parent, file=open("seconds.txt", "w"))
"""
LEGACY = "dynamo=False" if tuple(map(int, torch.__version__.split(".")[:2])) >= (2, 5) else ""


def _seconds(call) -> float:
    start = time.process_time()
    call()
    return time.process_time() - start


@pytest.mark.slow
def test_an_export_in_a_block(tmp_path):
    torch.set_num_threads(1)
    module, path = seeded("yolov7-tiny", 1.0, 0).network, tmp_path / "best.onnx"
    image = torch.zeros(1, 3, 64, 64)
    exporter = {"dynamo": False} if LEGACY else {}

    def bare() -> None:
        torch.onnx.export(module, (image,), str(path), **exporter)

    def captured() -> None:
        with capturing():
            bare()

    def copies() -> None:
        copied(module)
        shutil.copyfile(str(path), str(tmp_path / "copy"))

    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        bare(), captured(), copies()
        rows = np.array([[_seconds(call) for call in (bare, captured, copies)] for _ in range(ROUNDS)])
    extra = 1e3 * np.median(rows[:, 1] - rows[:, 0])
    without, copy = 1e3 * np.median(rows[:, 0]), 1e3 * np.median(rows[:, 2])
    megabytes = path.stat().st_size / 1e6
    print(
        f"\nyolov7-tiny, a file of {megabytes:.0f} MB: {without:.0f} ms bare, capture adds {extra:.1f} ms, "
        f"the copies alone take {copy:.1f} ms: {extra - copy:.1f} ms beside them"
    )
    assert path.is_file()


@pytest.mark.slow
def test_a_command(tmp_path):
    script = tmp_path / "export.py"
    script.write_text(SCRIPT.format(legacy=LEGACY), encoding="utf-8")
    environment = {**os.environ, "PYTHONPATH": str(Path(__file__).parents[1]), "OMP_NUM_THREADS": "1"}
    environment["PYTHONPYCACHEPREFIX"] = str(tmp_path / "compiled")  # as an installed package is
    environment.pop("PYTHONDONTWRITEBYTECODE", None)
    capture = [sys.executable, "-m", "detparity", "capture", "-q", "--checks", "structure.opset", "--"]
    command = [sys.executable, "-W", "ignore", "export.py"]
    rows = []
    for _ in range(PAIRS + 1):
        row = []
        for words in (command, capture + command):
            subprocess.run(words, cwd=tmp_path, env=environment, capture_output=True, check=True)
            row.append([float(word) for word in (tmp_path / "seconds.txt").read_text().split()])
        rows.append([row[0][0], *row[1]])
    found = 1e3 * np.array(rows[1:])  # the first compiles
    inside, (bare, _, launcher) = np.sort(found[:, 1] - found[:, 0]), np.median(found, 0)
    print(
        f"\na small export as a command, {PAIRS} pairs: {bare:.0f} ms bare; under capture {np.median(inside):.0f} ms more "
        f"({inside[0]:.0f} to {inside[-1]:.0f}), and {launcher:.0f} ms in the command that starts it"
    )
    assert len(found) == PAIRS
