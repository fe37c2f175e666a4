"""What the child process costs: a call in it beside the same call here, and how soon a dead worker is replaced.

    pytest benchmarks/test_isolation.py -m slow -s

A benchmark, not a verdict: it prints what docs/performance.md quotes, and asserts that both gave the same numbers.
"""

from __future__ import annotations

import os
import signal
import time

import numpy as np
import pytest

from detparity import engines
from detparity.core.isolate import Died
from detparity.core.vocabulary import Load, parse_variant
from detparity.engines.remote import Engines
from detparity.inputs.images import make
from detparity.models.yolov7.seeded import seeded
from detparity.tools.bench.interleave import take_turns
from detparity.tools.bench.statistics import ratio
from detparity.tools.export_cache import export_bytes

SIZE, ROUNDS, WARM_UP = (640, 640), 60, 5


@pytest.mark.slow
@pytest.mark.parametrize("width", [0.25, 1.0])
def test_a_call_in_the_child(width, tmp_path):
    path = tmp_path / "best.onnx"
    path.write_bytes(export_bytes(seeded("yolov7-tiny", width, 0), parse_variant("grid"), SIZE))
    feed = {"images": make("noise", SIZE, 0)[None].copy()}
    remote = Engines()
    here = engines.module("onnxruntime").prepare(path, Load(threads=1))
    there = remote.prepare("onnxruntime", path, Load(threads=1))

    assert all(np.array_equal(a, b) for a, b in zip(here.call(feed).values(), there.call(feed).values()))
    seconds = take_turns({"here": lambda _: here.call(feed), "there": lambda _: there.call(feed)}, ROUNDS, WARM_UP, 1)
    found = ratio(seconds["there"], seconds["here"])
    extra = np.median(seconds["there"] - seconds["here"])
    print(
        f"\nyolov7-tiny width {width:g} at 640x640, one thread: child / here = {found.middle:.4f} "
        f"({found.low:.4f} to {found.high:.4f}), {1e3 * extra:.1f} ms more of {1e3 * np.median(seconds['here']):.0f} ms"
    )
    remote.child.close()


@pytest.mark.slow
def test_a_dead_worker_is_replaced(tmp_path):
    remote = Engines()
    remote.newest()
    times = []
    for _ in range(10):
        assert remote.child._server is not None
        os.kill(remote.child._server._worker, signal.SIGKILL)
        start = time.perf_counter()
        with pytest.raises(Died):
            remote.child.request("newest")
        remote.child.request("configure", {"threads": 0, "bare": ""})
        times.append(time.perf_counter() - start)
    print(
        f"\na worker that was killed is replaced in {np.median(times):.3f} s (at most {max(times):.3f} s of {len(times)})"
    )
    remote.child.close()
