"""The first files of one seed of `fuzz_loading.py`, in the default run."""

from __future__ import annotations

import time
from pathlib import Path

import pytest
from detparity.kit.tests.fuzz.fuzz_loading import Fuzzer, mutated, problem

SEED = 20
COUNTS = {"operations": 90, "tree": 40, "yaml": 60, "checkpoint": 20, "table": 10, "lite": 10, "state_dict": 8}
SECONDS = 20  # of one file here; the script allows more for the largest


@pytest.mark.parametrize("sort", COUNTS)
def test_a_mutated_file_loads_or_is_one_line(sort: str, tmp_path: Path) -> None:
    fuzzer = Fuzzer(SEED, tmp_path)
    found = []
    for number in range(COUNTS[sort]):
        case = getattr(fuzzer, sort)()
        start = time.perf_counter()
        text = problem(case)
        if text and "the process grew" not in text:  # by other tests, perhaps
            found.append(f"{number}: {text}")
        assert time.perf_counter() - start < SECONDS

    assert found == []


def test_one_seed_makes_the_same_files(tmp_path: Path) -> None:
    contents = []
    for _ in range(2):
        fuzzer = Fuzzer(SEED, tmp_path)
        contents.append([getattr(fuzzer, sort)().path.read_bytes() for sort in ("operations", "tree", "table", "yaml")])

    assert contents[0] == contents[1]


def test_mutations_change_the_bytes() -> None:
    rng = Fuzzer(SEED, Path()).rng
    data = bytes(range(256)) * 4

    assert sum(mutated(rng, data) != data for _ in range(100)) > 90
