"""What the tail costs: `end2end-ort` beside `raw` on ONNX Runtime, interleaved in one run, as a ratio.

    pytest suites/runtime/test_tail.py -m slow -s

A benchmark, not a verdict: it prints ratios, and asserts only that both files gave what they should before a number is taken.
"""

from __future__ import annotations

import time

import numpy as np
import pytest

from detparity import images
from detparity.checks import nms
from detparity.detectors.seeded import seeded
from detparity.engines import ort
from detparity.exported import export_bytes
from detparity.intake import open_artifact
from detparity.session import make_oracle, make_trial
from detparity.strategies.cases import explore
from detparity.subject import parse_variant
from detparity.trial import Case, Clock

SIZE, ROUNDS = (640, 640), 40


@pytest.mark.slow
def test_tail_against_raw(tmp_path):
    detector = seeded("yolov7-tiny", 1.0, 0)
    paths = {}
    for name in ("raw", "end2end-ort"):
        paths[name] = tmp_path / f"{name}.onnx"
        paths[name].write_bytes(export_bytes(detector, parse_variant(name), SIZE))
    clock = Clock()
    found = open_artifact(paths["end2end-ort"], detector.facts, None, None)
    trial = make_trial(detector, found, make_oracle(detector, clock, ("grid",)), clock, explore)
    assert nms.compare(trial, Case(SIZE, (("natural", 3),))) == []  # no detection is lost

    feed = {"images": images.make("natural", SIZE, 3)[None]}
    for threads in (1, 2):
        runners = {name: ort.prepare(str(path), threads=threads) for name, path in paths.items()}
        times = {name: [] for name in runners}
        for turn in range(ROUNDS + 5):
            for name in list(runners)[:: 1 if turn % 2 else -1]:
                start = time.perf_counter()
                runners[name].call(feed)
                if turn >= 5:
                    times[name].append(time.perf_counter() - start)
        raw, tail = (np.array(times[name]) for name in ("raw", "end2end-ort"))
        low, middle, high = np.quantile(tail / raw, [0.25, 0.5, 0.75])
        print(
            f"\n{threads} threads: end2end-ort / raw = {middle:.3f} (quartiles {low:.3f} to {high:.3f}), "
            f"of the fastest runs {tail.min() / raw.min():.3f}; raw median {1e3 * np.median(raw):.0f} ms"
        )
        assert len(raw) == len(tail) == ROUNDS
