"""The clock that engines run on."""

from __future__ import annotations

import os
import time
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Iterator


@dataclass
class Clock:
    """Seconds spent inside engines, loading and running. What runs inside what is counted already, is not counted twice."""

    engine: float = 0.0
    _depth: int = 0

    @contextmanager
    def running(self) -> Iterator[None]:
        start = time.perf_counter()
        self._depth += 1
        try:
            yield
        finally:
            self._depth -= 1
            if not self._depth:
                self.engine += time.perf_counter() - start


def process_age() -> float:
    """Seconds since this process began, imports included; 0 where the system does not say."""
    try:
        with open("/proc/self/stat", encoding="utf-8") as stream:
            ticks = int(stream.read().rpartition(")")[2].split()[19])
        return max(time.clock_gettime(time.CLOCK_BOOTTIME) - ticks / os.sysconf("SC_CLK_TCK"), 0.0)
    except (OSError, ValueError, IndexError, AttributeError):
        return 0.0


def began(as_command: bool) -> float:
    """When the command began, on the clock `time.monotonic`; as_command: whether this process is the command."""
    return time.monotonic() - (process_age() if as_command else 0.0)
