"""The first files of one seed of `fuzz.py`, in the default run."""

from __future__ import annotations

import time
from pathlib import Path
from random import Random

import pytest
from detparity.kit.tests.examples import examples
from detparity.kit.tests.fuzz.cases import mutated
from detparity.kit.tests.fuzz.fuzz import Fuzzer, problem

SEED = 20
COUNTS = {
    **{"operations": 90, "tree": 40, "yaml": 60, "checkpoint": 20, "table": 10, "lite": 10, "state": 8},
    **{"onnx": 6, "toml": 20, "index": 60, "golden": 6, "pending": 60, "report": 60},
}
SECONDS = 20  # of work on one file here; the script allows more for the largest


@pytest.mark.parametrize("kind", COUNTS)
def test_a_mutated_file_is_taken_or_is_one_line(kind: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    cases = Fuzzer(SEED, tmp_path, [kind]).cases()
    next(cases)  # what all of them are made from
    found = []
    for number in range(examples(COUNTS[kind])):
        case = next(cases)
        start = time.process_time()
        text = problem(case)
        if text and "the process grew" not in text:  # by other tests, perhaps
            found.append(f"{number}: {text}")
        assert time.process_time() - start < SECONDS

    assert found == []


def test_one_seed_makes_the_same_files(tmp_path: Path) -> None:
    contents = []
    for _ in range(2):
        makers = Fuzzer(SEED, tmp_path).makers
        contents.append(
            [makers[kind]().path.read_bytes() for kind in ("operations", "tree", "table", "yaml", "onnx", "toml")]
        )

    assert contents[0] == contents[1]


def test_mutations_change_the_bytes() -> None:
    rng = Random(SEED)
    data = bytes(range(256)) * 4

    assert sum(mutated(rng, data) != data for _ in range(100)) > 90
