"""The time of one method of running the bundled detector over that of another, compared with goldens.

    pytest suites/runtime/test_ratios.py --benchmark-enable
    pytest suites/runtime/test_ratios.py --benchmark-enable --benchmark-autosave
    pytest suites/runtime/test_ratios.py --benchmark-enable --benchmark-compare --benchmark-compare-fail=median:10%

The two of a pair are interleaved in one run, and what pytest-benchmark records of each round is their ratio: its comparisons with
saved runs, `--benchmark-compare-fail` among them, are of ratios too, never of seconds. A ratio that moved further than noise explains
waits for `detparity review` like every golden. Without --benchmark-enable nothing is timed, and each pair runs once.
"""

from __future__ import annotations

import numpy as np
import pytest

from detparity.core import environment
from detparity.models.choice import BUNDLED_SIZE
from detparity.tools.bench import ratio_pairs
from detparity.tools.bench.candidates import make_feeds, numbered_call
from detparity.tools.golden import ratio
from detparity.tools.golden.evaluate import versions


class _Clock:
    """Advances only by the ratios it is given, one at each tick."""

    def __init__(self):
        self.now = 0.0
        self._left = iter(())

    def wind(self, values):
        self.now, self._left = 0.0, iter(values)

    def __call__(self):
        return self.now

    def tick(self):
        self.now += next(self._left)


CLOCK = _Clock()


@pytest.mark.benchmark(timer=CLOCK)
@pytest.mark.parametrize("name", list(ratio.PAIRS))
def test_ratio(name, benchmark, contender, ratio_golden):
    pair = ratio.PAIRS[name]
    both = [contender(title) for title in (pair.of, pair.to)]
    feeds = make_feeds(1, BUNDLED_SIZE)
    of, to = (numbered_call(runner, feeds) for _, runner in both)
    benchmark.group = "ratio"

    if not benchmark.enabled:
        benchmark.pedantic(lambda: [call(0) for call in (of, to)])
        return
    measured = ratio_pairs.measure(of, to, len(feeds))
    CLOCK.wind(measured.ravel())
    benchmark.pedantic(CLOCK.tick, rounds=measured.size)

    assert np.allclose(benchmark.stats.stats.data, measured.ravel())  # what is saved and compared are the ratios
    (one, _), _ = both
    here = {**environment.machine(), "threads": str(one.recipe.threads)}
    where = {key: value for key, value in {**here, **versions()}.items() if key not in ("memory", "python", "numpy")}
    now = ratio.content(pair, measured, (1, BUNDLED_SIZE), where)
    benchmark.extra_info.update({**now, "about": pair.about})
    ratio_golden(one.context, name, now)
