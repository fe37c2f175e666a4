"""What benchmarks share: contenders of the bundled detector, each held against the oracle before it is timed."""

from __future__ import annotations

from typing import Any, Optional

import pytest

from detparity import facts
from detparity.bench.command import require_right
from detparity.bench.contenders import EAGER, FROZEN, Contender, of_file, of_model, prepare
from detparity.exported import NotMade
from detparity.subject import EngineError

RATIO = "ratio"  # the group of benchmarks that measure a ratio, not seconds


@pytest.hookimpl(optionalhook=True)
def pytest_benchmark_scale_unit(unit: str, benchmarks: Any) -> Optional[Any]:
    """Ratios have no unit; every other benchmark is in seconds, as pytest-benchmark shows them."""
    groups = {one.get("group") for one in (benchmarks if isinstance(benchmarks, list) else [benchmarks])}
    return ("multiple", 1.0) if unit == "seconds" and groups == {RATIO} else None  # read as "time in multiples"


@pytest.fixture(scope="session")
def contender(session: Any, made: Any) -> Any:
    """Call with a title, such as `traced, frozen`, a batch and a size for the contender; its file was held against the oracle."""

    def find(title: str, batch: int = 1, size: Any = None) -> Contender:
        threads = facts.usable_cores()
        if title == EAGER:
            return of_model(session.choice, "grid", threads)
        file = made(title.split(",")[0])
        if isinstance(file, NotMade):
            pytest.skip(f"not made here: {file}")
        trial = session.trial(file, title.split(",")[0])
        require_right(trial, batch, size or trial.contract.size)
        one = next(one for one in of_file(trial, threads) if one.title == title)
        if one.recipe.engine == FROZEN:
            try:
                prepare(one.recipe)
            except EngineError as error:
                pytest.skip(f"this torch cannot rewrite it for speed: {error}")
        return one

    return find
