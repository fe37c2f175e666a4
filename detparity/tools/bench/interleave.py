"""Interleaved timing: every contender runs once a round, so that other load on the machine affects all of them equally."""

from __future__ import annotations

import gc
import time
from typing import Callable, Dict, List, Mapping, Optional, Sequence

import numpy as np

Call = Callable[[int], None]  # runs a contender on the feed of this number
Progress = Callable[[int, int], None]  # rounds done, rounds in all


def take_turns(
    calls: Mapping[str, Call], rounds: int, warm_up: int, feeds: int, progress: Optional[Progress] = None
) -> Dict[str, np.ndarray]:
    """Seconds of each contender, (rounds,) each: in round k all of them run on the same feed, in an order of its own.

    warm_up: rounds before those, not counted; feeds: how many feeds there are, used in rotation. Python's garbage collector is off
    meanwhile.
    """
    taken: Dict[str, List[float]] = {name: [] for name in calls}
    collecting = gc.isenabled()
    gc.collect()
    gc.disable()
    try:
        for number in range(warm_up + rounds):
            for name in order(list(calls), number):
                start = time.perf_counter()
                calls[name]((number - warm_up) % feeds)
                seconds = time.perf_counter() - start
                if number >= warm_up:
                    taken[name].append(seconds)
            if progress is not None and number >= warm_up:
                progress(number - warm_up + 1, rounds)
    finally:
        if collecting:
            gc.enable()
    return {name: np.array(seconds) for name, seconds in taken.items()}


def order(names: Sequence[str], number: int) -> List[str]:
    """The order of round `number`: shuffled every other round, reversed in between, so that in two rounds no contender is early more
    often than late, and over many none always follows the same neighbour or has a picture at the same position."""
    shuffled = [names[index] for index in np.random.default_rng(number // 2).permutation(len(names))]
    return shuffled[::-1] if number % 2 else shuffled
