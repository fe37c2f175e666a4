"""How much the times of two copies of one file differ: it decides how far a ratio must be from 1 before a file is called faster.

    pytest benchmarks/test_same.py -m slow -s

Each repetition loads both copies again, since the position of their memory shifts all rounds of a run equally, which no interval over
rounds shows. It is a benchmark: it prints what docs/performance.md quotes.
"""

from __future__ import annotations

import shutil

import numpy as np
import pytest

from detparity.core.environment import usable_cores
from detparity.core.statistics import RESOLUTION
from detparity.models.choice import BUNDLED_SIZE
from detparity.tools.bench.candidates import Recipe, make_feeds, numbered_call, prepare
from detparity.tools.bench.interleave import take_turns
from detparity.tools.bench.statistics import ratio

REPETITIONS, ROUNDS, WARM_UP = 60, 50, 5


@pytest.mark.slow
@pytest.mark.parametrize("name, engine", [("grid", "onnxruntime"), ("traced", "torchscript")])
def test_two_copies_of_one_file(name, engine, exports, tmp_path):
    path = exports(name)
    copy = tmp_path / path.name
    shutil.copy(str(path), str(copy))
    feeds = make_feeds(1, BUNDLED_SIZE)
    found = []
    for _ in range(REPETITIONS):
        runners = {one: prepare(Recipe(engine, usable_cores(), str(one))) for one in (path, copy)}
        seconds = take_turns(
            {str(one): numbered_call(each, feeds) for one, each in runners.items()}, ROUNDS, WARM_UP, len(feeds)
        )
        found.append(ratio(seconds[str(copy)], seconds[str(path)]))
    away = np.array([abs(np.log(one.middle)) for one in found])
    apart = sum(one.low > 1 or one.high < 1 for one in found)
    median, most = (f"{np.expm1(value):.1%}" for value in (np.median(away), away.max()))
    print(
        f"\n{name}: two copies, {REPETITIONS} times {ROUNDS} rounds: the ratio is {median} from 1 at the median, {most} at most; the "
        f"interval excludes 1 in {apart}; called different are {sum(one.differs for one in found)}"
    )
    assert len(found) == REPETITIONS and RESOLUTION > 0
