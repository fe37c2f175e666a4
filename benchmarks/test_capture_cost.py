"""What capture adds to an export: beside its copies of module and file, and to the start of a command.

    pytest benchmarks/test_capture_cost.py -m slow -s

Seconds are those of the processor, up to the end of the script: the verdict that follows is not an overhead. In a block every part of
capture is timed inside one process, so that nothing has to be subtracted; commands take turns with bare ones. A benchmark: it prints
what docs/performance.md quotes.
"""

from __future__ import annotations

import os
import subprocess
import sys
import time
import warnings
from collections import Counter
from pathlib import Path

import numpy as np
import pytest

torch = pytest.importorskip("torch", minversion="1.13")

from detparity.models import capture, capture_contract, capture_files, capture_hooks  # noqa: E402
from detparity.models.yolov7.seeded import seeded  # noqa: E402

ROUNDS, PAIRS = 7, 7
SCRIPT = """
import os, sys, time
import torch
{model}
torch.onnx.export(model.eval(), (torch.zeros(1, 3, 640, 640),), "best.onnx", {legacy})
own = time.process_time()
with open(f"/proc/{{os.getppid()}}/stat") as stream:
    words = stream.read().rpartition(")")[2].split()
parent = sum(map(int, words[11:13])) / os.sysconf("SC_CLK_TCK")
print(own, parent, file=open("seconds.txt", "w"))
"""
MODELS = {
    "one convolution": "model = torch.nn.Conv2d(3, 8, 3)",
    "yolov7-tiny": "from detparity.models.yolov7.seeded import seeded\nmodel = seeded('yolov7-tiny', 1.0, 0).network",
}
LEGACY = "dynamo=False" if tuple(map(int, torch.__version__.split(".")[:2])) >= (2, 5) else ""


class Parts:
    """The processor's seconds of functions of capture while they run, each without those that it calls."""

    def __init__(self, patch) -> None:
        self.seconds, self._inner, self._patch = Counter(), [], patch

    def of(self, owner, name: str, part: str) -> None:
        own = getattr(owner, name)

        def timed(*args, **kwargs):
            start = time.thread_time()
            self._inner.append(0.0)
            try:
                return own(*args, **kwargs)
            finally:
                took = time.thread_time() - start
                self.seconds[part] += took - self._inner.pop()
                if self._inner:
                    self._inner[-1] += took

        self._patch.setattr(owner, name, timed)


@pytest.mark.slow
def test_an_export_in_a_block(tmp_path, monkeypatch):
    torch.set_num_threads(1)
    module, path = seeded("yolov7-tiny", 1.0, 0).network, tmp_path / "best.onnx"
    exporter = {"dynamo": False} if LEGACY else {}
    parts, rows = Parts(monkeypatch), []
    for owner, name, part in (
        (capture_contract, "copied", "the copy of the module"),
        (capture_contract, "detached", "the copy of the inputs"),
        (capture, "copied", "the copy of the file"),
        (capture.Captures, "__init__", "the folder"),
        (capture_hooks.Installation, "install", "observing torch"),
        (capture_hooks.Installation, "remove", "observing torch"),
        (capture_files.FileWatch, "note", "watching files"),
        (capture._Session, "began", "reading the call"),
        (capture._Session, "ended", "reading the call"),
        (capture._Session, "finish", "finding its files"),
    ):
        parts.of(owner, name, part)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        for _ in range(ROUNDS + 1):
            parts.seconds.clear()
            start = time.process_time()
            with capture.capturing():
                torch.onnx.export(module, (torch.zeros(1, 3, 64, 64),), str(path), **exporter)
            rows.append({**parts.seconds, "all": time.process_time() - start})
    found = {part: 1e3 * float(np.median([row[part] for row in rows[1:]])) for part in rows[0]}  # the first imports
    own = sum(found.values()) - found["all"]
    copies = sum(one for part, one in found.items() if "copy" in part)
    print(f"\nyolov7-tiny, a file of {path.stat().st_size / 1e6:.0f} MB, ms of the processor, medians of {ROUNDS}:")
    print("\n".join(f"  {part:24}{one:8.1f}" for part, one in found.items()))
    print(f"capture adds {own:.1f} ms: copies {copies:.1f}, all else {own - copies:.1f}")
    assert len(found) == 9


@pytest.mark.slow
@pytest.mark.parametrize("model", MODELS)
def test_a_command(model, tmp_path):
    script = tmp_path / "export.py"
    script.write_text(SCRIPT.format(legacy=LEGACY, model=MODELS[model]), encoding="utf-8")
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
        f"\n{model}, exported by a command, {PAIRS} pairs: {bare:.0f} ms bare; under capture {np.median(inside):.0f} ms more "
        f"({inside[0]:.0f} to {inside[-1]:.0f}), and {launcher:.0f} ms in the command that starts it"
    )
    assert len(found) == PAIRS
