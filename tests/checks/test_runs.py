"""How often a file is run for a verdict: a picture that several checks share is run once, but where bits must repeat."""

from __future__ import annotations

from collections import Counter

import numpy as np
import pytest

from detparity.checks import parity, run
from detparity.checks.context import REMEMBERED, Context, applicable
from detparity.core.case import Case
from detparity.engines.reference_runs import Oracle


@pytest.mark.parametrize("large, repeated", [(False, 4), (True, 2)])
def test_a_file_of_one_size_is_run_ten_times_and_of_a_large_one_eight(large, repeated, clean, judged, monkeypatch):
    monkeypatch.setattr(Oracle, "is_large", lambda oracle, size: large)
    monkeypatch.setattr(parity, "usable_cores", lambda: 2)
    calls = Counter()
    plain = Context.run_filled

    def counted(self, images, filled, **engine):
        calls[tuple(engine.items()), images.tobytes()] += 1
        return plain(self, images, filled, **engine)

    monkeypatch.setattr(Context, "run_filled", counted)
    context = judged(clean("grid"))
    checks = [check for check in applicable(context) if check not in ("parity.map", "parity.evaluator")]
    assert not [check for check in checks if context.outcome(check).findings]
    assert {"structure.shapes", "parity.declared", "parity.values", "parity.repeat", "parity.threads"} <= set(checks)
    run.noise_of(context)

    # Five pictures, one of them several times; two other engines.
    assert sorted(calls.values()) == [1, 1, 1, 1, 1, 1, repeated]
    assert sum(1 for engine, _ in calls if not engine) == 5
    assert (("threads", 3 if large else 1),) in {engine for engine, _ in calls}


def test_what_is_remembered_is_what_was_given_and_the_latest_alone(clean, judged):
    context = judged(clean("grid"))
    cases = [Case(context.contract.size, (("noise", seed),)) for seed in range(REMEMBERED + 2)]
    given = [context.outputs(case) for case in cases]
    assert context.outputs(cases[-1]) is given[-1]
    again = context.outputs(cases[0])
    assert again is not given[0] and all(np.array_equal(again[name], array) for name, array in given[0].items())
