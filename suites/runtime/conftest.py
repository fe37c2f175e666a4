"""Fixtures of the benchmarks: contenders of the bundled detector, each compared with the oracle before it is timed."""

from __future__ import annotations

from pathlib import Path
from typing import Any, List, Optional, Tuple

import pytest

from detparity.core import environment
from detparity.core.errors import EngineError, NotMade
from detparity.core.findings import MADE
from detparity.core.vocabulary import Runner, Size
from detparity.models.choice import BUNDLED_SIZE
from detparity.tools.bench.candidates import EAGER, FROZEN, Contender, of_file, of_model, prepare
from detparity.tools.bench.run import require_right

HERE = Path(__file__).resolve().parent
RATIO = "ratio"  # the group of benchmarks that measure a ratio, not seconds


# Where nothing is timed: one file of each engine, a cut one, and one ratio, which show that what is timed runs and is right.
UNTIMED = ("eager", "grid", "end2end-ort, cut", "end2end-trt", "traced, frozen", "scripted", "lite", "tail")


@pytest.hookimpl(tryfirst=True)
def pytest_collection_modifyitems(config: pytest.Config, items: List[pytest.Item]) -> None:
    """Leave the others to a nightly run, unless benchmarks are enabled."""
    if config.getoption("benchmark_enable"):
        return
    seen = set()
    for item in items:
        if item.path.parent != HERE:
            continue
        params = item.callspec.params  # type: ignore[attr-defined]
        name = params.get("title", params.get("name"))
        if name not in UNTIMED or name in seen:
            item.add_marker("more")
        else:
            item.add_marker("lanes")
        seen.add(name)


@pytest.hookimpl(optionalhook=True)
def pytest_benchmark_scale_unit(unit: str, benchmarks: Any) -> Optional[Any]:
    """Ratios have no unit; every other benchmark is in seconds, as pytest-benchmark shows them."""
    groups = {one.get("group") for one in (benchmarks if isinstance(benchmarks, list) else [benchmarks])}
    return ("multiple", 1.0) if unit == "seconds" and groups == {RATIO} else None  # read as "time in multiples"


@pytest.fixture(scope="session")
def contender(session: Any, made: Any) -> Any:
    """Call with a title, such as `traced, frozen`, a batch and a size for the contender and its runner, compared with the oracle."""

    def find(title: str, batch: int = 1, size: Size = BUNDLED_SIZE) -> Tuple[Contender, Runner]:
        one = named(title)
        try:
            runner = prepare(one.recipe, session.detector)
        except EngineError as error:
            if one.recipe.engine != FROZEN:
                raise
            pytest.skip(f"this torch cannot rewrite it for speed: {error}")
        require_right(one, runner, batch, size)
        return one, runner

    def named(title: str) -> Contender:
        threads = environment.usable_cores()
        if title == EAGER:
            return of_model(session.choice, "grid", threads)
        name = title.split(",")[0]
        file = made(name)
        if isinstance(file, NotMade):
            pytest.skip(f"blocked by {MADE}: {file}")
        return next(one for one in of_file(session.context(file, name), threads) if one.title == title)

    return find
