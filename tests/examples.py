"""How much of what could be tried is tried: all in the lanes and where `tox -e proofs` runs, a part by default."""

from __future__ import annotations

import os

ALL = os.environ.get("DETPARITY_EXAMPLES") == "all"


def examples(count: int) -> int:
    """Of examples of a law: all, or a third."""
    return count if ALL else -(-count // 3)
