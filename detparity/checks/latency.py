"""How long an engine takes for one image, against the first engine of the run: measured in turns, so that what else the machine does
falls on both."""

from __future__ import annotations

import statistics
from dataclasses import dataclass
from typing import Any, Dict, List, Optional, Tuple

from detparity.checks.foreign.context import ForeignContext
from detparity.core.case import Case
from detparity.core.errors import EngineDied, EngineError
from detparity.core.findings import CannotRun
from detparity.core.vocabulary import Arrays, Runner, Size

THREADS, WARM_UP, ROUNDS = 1, 2, 7


@dataclass(frozen=True)
class Timed:
    """A loaded file with what it is fed. title: of its file and engine."""

    title: str
    runner: Runner
    feed: Arrays
    size: Size
    batch: int


def timed(context: Any, title: str) -> Timed:
    """A file as it is timed: on one thread, on noise. Raises EngineError."""
    contract = context.contract
    case = Case(contract.size, tuple(("noise", slot) for slot in range(contract.batch)))
    runner = context.runner(threads=THREADS)
    name = context.form.image or runner.input_names[0]
    foreign = isinstance(context, ForeignContext)
    feed: Arrays = (
        context.feed(case, (name,)) if foreign else context.form.feed(name, context.batch(case), context.filled)
    )
    return Timed(title, runner, feed, contract.size, contract.batch)


def latency(context: Any, title: str, first: Optional[Timed]) -> Tuple[Dict[str, Any], Optional[Timed]]:
    """What a report states of a file's time, and the file that the next ones are compared with. Nothing where it does not run."""
    try:
        own = timed(context, title)
        if first is None:
            return {"seconds": _median([own])[0], "threads": THREADS}, own
        if (first.size, first.batch) != (own.size, own.batch):
            return {"seconds": _median([own])[0], "threads": THREADS}, first
        base, mine = _median([first, own])
    except (EngineError, EngineDied, CannotRun):
        return {}, first
    return {"seconds": mine, "threads": THREADS, "ratio": mine / base, "to": first.title}, first


def _median(several: List[Timed]) -> List[float]:
    """Median seconds of each, taken in turns."""
    taken: List[List[float]] = [[] for _ in several]
    for number in range(WARM_UP + ROUNDS):
        for one, seconds in zip(several, taken):
            one.runner.call(one.feed)
            if number >= WARM_UP:
                seconds.append(one.runner.took())
    return [statistics.median(seconds) for seconds in taken]
