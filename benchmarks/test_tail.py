"""What the tail costs: `end2end-ort` against `raw` on ONNX Runtime, interleaved, as a ratio.

    pytest benchmarks/test_tail.py -m slow -s

A benchmark, not a verdict: it prints ratios, and asserts only that both files are right before they are timed.
"""

from __future__ import annotations

import pytest

from detparity.checks.opening import make_context, open_file
from detparity.core.clock import Clock
from detparity.core.vocabulary import parse_variant
from detparity.engines.reference_runs import make_oracle
from detparity.inputs.explore import explore
from detparity.inputs.images import make
from detparity.models.yolov7.seeded import seeded
from detparity.tools.bench.candidates import numbered_call, of_file, prepare
from detparity.tools.bench.interleave import take_turns
from detparity.tools.bench.run import require_right
from detparity.tools.bench.statistics import ratio
from detparity.tools.export_cache import export_bytes

SIZE, ROUNDS, WARM_UP = (640, 640), 100, 8


@pytest.mark.slow
def test_tail_against_raw(tmp_path):
    detector = seeded("yolov7-tiny", 1.0, 0)
    clock = Clock()
    oracle = make_oracle(detector, clock, ("grid", "raw"))
    contexts = {}
    for name in ("raw", "end2end-ort"):
        path = tmp_path / f"{name}.onnx"
        path.write_bytes(export_bytes(detector, parse_variant(name), SIZE))
        found = open_file(path, detector.facts)
        contexts[name] = make_context(detector, found, oracle, clock, explore)

    feeds = [make("natural", SIZE, seed)[None] for seed in range(3)]
    for threads in (1, 2):
        contenders = {name: of_file(context, threads)[0] for name, context in contexts.items()}
        runners = {name: prepare(one.recipe) for name, one in contenders.items()}
        for name, one in contenders.items():
            require_right(one, runners[name], 1, SIZE)
        calls = {name: numbered_call(runner, feeds) for name, runner in runners.items()}
        seconds = take_turns(calls, ROUNDS, WARM_UP, len(feeds))
        tail = ratio(seconds["end2end-ort"], seconds["raw"])
        boxes = [len(runners["end2end-ort"].call({"images": feed})["output"]) for feed in feeds]
        fastest = seconds["end2end-ort"].min() / seconds["raw"].min()
        print(
            f"\n{threads} threads: end2end-ort / raw = {tail.middle:.4f} ({tail.low:.4f} to {tail.high:.4f}), "
            f"of the fastest runs {fastest:.4f}; {boxes} detections"
        )
        assert tail.rounds == ROUNDS
