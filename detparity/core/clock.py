"""The clock that engines run on."""

from __future__ import annotations

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
