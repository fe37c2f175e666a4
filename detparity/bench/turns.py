"""Taking turns: every contender runs once a round, so that what the machine does meanwhile meets them all alike."""

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
    """Seconds of each contender, (rounds,) each: in round k all of them run on the same feed, in another order than the round before.

    warm_up: rounds before those, not counted; feeds: how many feeds there are, used in rotation. The collector of Python's garbage
    waits, so that it falls on no one's turn.
    """
    taken: Dict[str, List[float]] = {name: [] for name in calls}
    collecting = gc.isenabled()
    gc.collect()
    gc.disable()
    try:
        for number in range(-warm_up, rounds):
            for name in order(list(calls), number):
                start = time.perf_counter()
                calls[name](number % feeds)
                seconds = time.perf_counter() - start
                if number >= 0:
                    taken[name].append(seconds)
            if progress is not None and number >= 0:
                progress(number + 1, rounds)
    finally:
        if collecting:
            gc.enable()
    return {name: np.array(seconds) for name, seconds in taken.items()}


def order(names: Sequence[str], number: int) -> List[str]:
    """The order of round `number`: another one begins each time, and every other round runs backwards, so that nobody always
    follows the same neighbour."""
    first = (number // 2) % len(names)
    turned = [*names[first:], *names[:first]]
    return turned[::-1] if number % 2 else turned
