"""The mutants of one file, judged one after the other, by this process and by others beside it."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import threading
from dataclasses import dataclass
from itertools import islice
from pathlib import Path
from typing import IO, Callable, Iterator, Sequence, Tuple

from detparity.artifacts.onnx_file_mutations import Mutant, drawn, loaded
from detparity.engines.remote import client
from detparity.tools.mutate.judging import Bench
from detparity.tools.mutate.results import Record, Results


@dataclass(frozen=True)
class Plan:
    """Which mutants: the first `limit` of these groups and this seed; share: (k, n), of n processes the k-th takes every n-th."""

    seed: int
    limit: int
    groups: Tuple[str, ...]
    share: Tuple[int, int] = (0, 1)


def mutants(path: Path, plan: Plan) -> Iterator[Mutant]:
    """The mutants of a file. Raises InputError where it cannot be changed."""
    return islice(drawn(loaded(path), client().inferred(path), plan.seed, plan.groups), plan.limit)


def judge(bench: Bench, plan: Plan, skip: Callable[[int], bool], scratch: Path) -> Iterator[Record]:
    """The records of this process's share, of mutants that are not to be skipped. They have the name of the file, by which a capture
    knows it."""
    mine, of = plan.share
    path = scratch / bench.path.name
    for mutant in mutants(bench.path, plan):
        if mutant.number % of == mine and not skip(mutant.number):
            yield bench.judged(mutant, path)


class Others:
    """Processes that take the other shares, as the same command with `--share`; each prints its records. Their last words on stderr
    are ours."""

    def __init__(self, words: Sequence[str], count: int, add: Callable[[Record], None]) -> None:
        self._add = add
        command = [sys.executable, "-m", "detparity", *words]
        environment = {**os.environ, "OMP_NUM_THREADS": "1"}
        self._processes = [
            subprocess.Popen([*command, "--share", f"{k}/{count}"], stdout=subprocess.PIPE, text=True, env=environment)
            for k in range(1, count)
        ]
        self._readers = [
            threading.Thread(target=self._read, args=(one.stdout,), daemon=True) for one in self._processes
        ]
        for reader in self._readers:
            reader.start()

    def _read(self, lines: IO[str]) -> None:
        for line in lines:
            if line.startswith("{"):
                self._add(json.loads(line))

    def wait(self) -> None:
        for reader in self._readers:
            reader.join()

    def end(self) -> None:
        for one in self._processes:
            one.terminate()
        for one in self._processes:
            one.wait()


def run(
    bench: Bench, plan: Plan, results: Results, words: Sequence[str], how: Tuple[Path, int, Callable[[Record], None]]
) -> None:
    """Judge what has no record yet. words: of the command, for other processes; how: a folder, how many processes, and what is called
    with each record."""
    scratch, jobs, show = how
    lock = threading.Lock()

    def add(record: Record) -> None:
        with lock:
            results.add(record)
            show(record)

    known = set(results.records)
    others = Others(words, jobs, add) if jobs > 1 else None
    try:
        mine = Plan(plan.seed, plan.limit, plan.groups, (0, jobs))
        for record in judge(bench, mine, lambda number: number in known, scratch):
            add(record)
        if others is not None:
            others.wait()
        for record in judge(bench, plan, lambda number: number in results.records, scratch):  # of one that ended early
            add(record)
    finally:
        if others is not None:
            others.end()
