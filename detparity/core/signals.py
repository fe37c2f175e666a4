"""Signals that wait while a library is imported."""

from __future__ import annotations

import contextlib
import signal
import threading
from typing import Iterator, List


@contextlib.contextmanager
def held_back() -> Iterator[None]:
    """SIGINT and SIGTERM act at the end of the block. Raised while torch is imported, an exception may be swallowed by one of its
    `except` clauses, or end the process in its compiled part. In another thread, where no handler can be set, they act as before."""
    if threading.current_thread() is not threading.main_thread():
        yield
        return
    came: List[int] = []
    before = {
        number: signal.signal(number, lambda number, _: came.append(number))
        for number in (signal.SIGINT, signal.SIGTERM)
    }
    try:
        yield
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)
        if came:
            signal.raise_signal(signal.Signals(came[0]))
