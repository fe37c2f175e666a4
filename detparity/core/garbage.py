"""How often Python looks for garbage, in processes that are ours alone."""

from __future__ import annotations

import gc

# New containers between two collections, where Python has 700, and collections of one generation for one of the next, where it has 10.
# Importing torch takes a seventh less time so, our tests a tenth; what one collection may leave for the next is a few megabytes.
CONTAINERS, COLLECTIONS = 10_000, 20


def collect_less() -> None:
    """Look for garbage less often from here on."""
    gc.set_threshold(CONTAINERS, COLLECTIONS, COLLECTIONS)


def freeze_imports() -> None:
    """Never look again at what is there now, which stays: imported modules. Forked processes then share its memory for longer."""
    gc.freeze()
