"""What many files gain by more machines: `check FOLDER --shard I/N` for one, two and four machines.

    pytest benchmarks/test_shards.py -m slow -s

Each shard runs alone, from a cold start, as on a machine of its own, and the slowest of them is what all of them take. Without a cache
each works out the references anew; with one, as CI keeps it between runs, all read those of an earlier run. A benchmark: it prints how
long each took, and asserts that every file was judged once.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
import time
from pathlib import Path
from typing import Sequence

import pytest

from detparity.core.vocabulary import parse_variant
from detparity.models.yolov7.seeded import seeded
from detparity.tools.export_cache import export_bytes

SIZE, COPIES, MACHINES = (320, 320), 8, (1, 2, 4)
VARIANTS = ("raw", "grid", "grid-dynamic", "end2end-ort", "traced")  # of different cost


def _judged(folder: Path, index: int, count: int, out: Path, cache: Sequence[str]) -> float:
    command = [sys.executable, "-W", "ignore", "-m", "detparity", "check", str(folder), "--arch", "yolov7-tiny"]
    command += ["--width", "1", *cache, "-q", "--shard", f"{index}/{count}", "--json", str(out)]
    start = time.perf_counter()
    environment = {**os.environ, "PYTHONPATH": str(Path(__file__).parents[1])}
    done = subprocess.run(command, cwd=str(folder), env=environment, capture_output=True, text=True)
    assert done.returncode == 0, done.stdout + done.stderr
    return time.perf_counter() - start


@pytest.mark.slow
@pytest.mark.parametrize("cached", [False, True], ids=["cold", "cached"])
def test_more_machines(cached, tmp_path):
    detector, folder, reports = seeded("yolov7-tiny", 1.0, 0), tmp_path / "files", tmp_path / "reports"
    folder.mkdir()
    reports.mkdir()
    for name in VARIANTS:
        content = export_bytes(detector, parse_variant(name), SIZE)
        for copy in range(COPIES):
            (folder / f"{name}-{copy}{'.torchscript.pt' if name == 'traced' else '.onnx'}").write_bytes(content)
    files = {path.name for path in folder.iterdir()}
    cache = ["--cache", str(tmp_path / "cache")] if cached else ["--no-cache"]
    if cached:
        _judged(folder, 1, 1, reports / "first.json", cache)
    alone = 0.0
    for count in MACHINES:
        seconds, judged = [], []
        for index in range(1, count + 1):
            out = reports / f"{index}-of-{count}.json"
            seconds.append(_judged(folder, index, count, out, cache))
            judged += [Path(one["path"]).name for one in json.loads(out.read_text())["artifacts"]]
        alone = alone or max(seconds)
        print(
            f"\n{len(files)} files on {count} machines: {max(seconds):.1f} s, {alone / max(seconds):.2f} times as fast as one; "
            f"each {', '.join(f'{one:.1f}' for one in seconds)} s"
        )
        assert sorted(judged) == sorted(files)
