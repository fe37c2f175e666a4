"""How many examples a law is tried on: all that it states in the lanes, a third of them in the default run."""

from __future__ import annotations

import os

FULL = "DETPARITY_EXAMPLES"  # the environment variable that is `all` in the lanes of tox.ini


def examples(count: int) -> int:
    return count if os.environ.get(FULL) == "all" else -(-count // 3)
