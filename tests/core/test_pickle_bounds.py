"""Small files that ask for much memory or time are refused while they are read, in one line."""

from __future__ import annotations

import time
import tracemalloc
from pathlib import Path

import pytest
from detparity.kit.tests.core.hostile import ROWS, archived

from detparity.core.errors import InputError
from detparity.core.pickle_reader import read

MOST_BYTES, MOST_SECONDS = 600 << 20, 15
UNTRACED = (
    "lists",
    "records",
    "numpy shape",
)  # hundreds of thousands of objects, which tracing memory makes several times slower


@pytest.mark.parametrize("row", ROWS)
def test_a_pickle_that_asks_for_much_is_refused_early(row: str, tmp_path: Path) -> None:
    make, words = ROWS[row]
    path = archived(tmp_path / "x.pt", {"data.pkl": make()})
    assert path.stat().st_size < 20 << 20

    if row not in UNTRACED:
        tracemalloc.start()
    start = time.perf_counter()
    try:
        with pytest.raises(InputError) as caught:
            read(path)
        peak = tracemalloc.get_traced_memory()[1] if row not in UNTRACED else 0
    finally:
        tracemalloc.stop()

    assert words in str(caught.value) and "\n" not in str(caught.value)
    assert peak < MOST_BYTES
    assert time.perf_counter() - start < MOST_SECONDS
