"""Latency of every engine and variant of the bundled detector, by batch and size, with suppression and without.

    pytest suites/runtime/test_runtime.py --benchmark-enable --benchmark-only
    pytest suites/runtime/test_runtime.py --benchmark-enable --benchmark-only --benchmark-group-by=param:batch,param:size

Contenders of one batch and size are one group. Each file is compared with the float64 model first, and a wrong one is an error, not a
number. Every name states whether suppression is in it. Threads are pinned to the cores this process may use, the warm-up is not
counted, pictures rotate. What pytest-benchmark has no column for is in the JSON (`--benchmark-json=FILE`), under `extra_info`.
Without --benchmark-enable each case runs once.
"""

from __future__ import annotations

import itertools

import numpy as np
import pytest

from detparity.core import environment
from detparity.core.vocabulary import parse_variant
from detparity.models.choice import BUNDLED_SIZE
from detparity.tools.bench import cold_start
from detparity.tools.bench.candidates import FEEDS, WITH, WITHOUT, make_feeds
from detparity.tools.bench.statistics import summary
from detparity.tools.export_cache import export_bytes, missing, promised

ROUNDS, WARM_UP = 60, 8
# Files of one fixed input, and those that take any: the latter are timed at others as well.
FIXED = ("raw", "grid", "grid-dynamo", "end2end-ort", "end2end-ort, cut", "end2end-trt", "traced", "traced, frozen")
OPEN = (
    *("eager", "raw-dynamic", "grid-dynamic", "end2end-ort-dynamic", "end2end-ort-dynamic, cut", "traced-dynamic"),
    *("scripted", "scripted, frozen", "lite"),
)
SUPPRESSING = ("end2end-ort", "end2end-ort-dynamic")  # of the others, a plugin's file is timed up to the plugin
INPUTS = ((1, BUNDLED_SIZE), (4, BUNDLED_SIZE), (1, (512, 512)))
CASES = [
    pytest.param(
        title, nms, batch, size, id=f"{title} {nms} {batch}x3x{size[0]}x{size[1]}".replace(",", "").replace(" ", "-")
    )
    for batch, size in INPUTS
    for title in (FIXED if (batch, size) == INPUTS[0] else ()) + OPEN
    for nms in (WITH if title in SUPPRESSING else WITHOUT,)
]
EXPORTED = ("raw", "grid", "end2end-ort", "end2end-trt", "traced", "scripted", "lite", "grid-dynamo")


@pytest.mark.parametrize("title, nms, batch, size", CASES)
def test_latency(title, nms, batch, size, benchmark, contender):
    one, runner = contender(title, batch, size)
    assert one.nms == nms
    feeds = itertools.cycle(make_feeds(batch, size))
    benchmark.group = f"{batch}x3x{size[0]}x{size[1]}"
    benchmark.extra_info.update(engine=one.recipe.engine, nms=one.nms, note=one.note, threads=one.recipe.threads)

    outputs = benchmark.pedantic(
        lambda feed: runner.call({runner.input_names[0]: feed}),
        setup=lambda: ((next(feeds),), {}),
        rounds=ROUNDS,
        warmup_rounds=WARM_UP,
    )

    assert outputs and all(np.isfinite(array).all() for array in outputs.values())
    if benchmark.enabled:
        cold = cold_start.measure(one.recipe, batch, size)
        times = summary(np.array(benchmark.stats.stats.data))
        benchmark.extra_info.update(
            p90=times.p90,
            p99=times.p99,
            images_per_second=batch / times.median,
            load_seconds=cold.load,
            first_call_seconds=cold.first,
            peak_bytes=cold.peak,
            file_bytes=one.context.artifact.path.stat().st_size if one.context else None,
            pictures=FEEDS,
            **environment.machine(),
        )


@pytest.mark.parametrize("name", [pytest.param(name, marks=pytest.mark.slow) for name in EXPORTED])
def test_export(name, benchmark, session, contender):
    reason = missing(name)
    if reason:
        pytest.skip(reason)
    one, _ = contender(name)
    benchmark.group = "export"

    content = benchmark.pedantic(
        export_bytes,
        (session.detector, parse_variant(promised(name)), BUNDLED_SIZE),
        {"exporter": name},
        rounds=3,
        warmup_rounds=1,
    )

    # Archives of torch hold names that count up in a process, so only their size is the same each time.
    assert abs(len(content) - one.context.artifact.path.stat().st_size) <= 0.01 * len(content)
    benchmark.extra_info.update(file_bytes=len(content))
