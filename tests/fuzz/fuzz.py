"""Mutated files of every kind that detparity reads: each is taken, or refused in one line, within its limits.

`python tests/fuzz/fuzz.py --minutes N --seed S [--kinds onnx,toml]` runs until the time is over, prints one line a failure and a
summary, leaves each file that failed in `--keep DIR`, and exits with 1 where there was one. The same seed makes the same files in the
same order.
"""

from __future__ import annotations

import argparse
import random
import resource
import sys
import tempfile
import time
import traceback
from pathlib import Path
from typing import Callable, Dict, Iterator, List, Optional, Sequence, Tuple

if __name__ == "__main__":  # in a clone that is not installed
    sys.path.insert(0, str(Path(__file__).resolve().parents[2]))

from detparity.kit.tests.fuzz.cases import Case
from detparity.kit.tests.fuzz.commands import Commands
from detparity.kit.tests.fuzz.loading import Loading

from detparity.core.errors import EngineError, InputError

MAX_SECONDS, MAX_MEGABYTES = 60.0, 1500  # seconds of this process's own work; ten times that, waits included


class Fuzzer:
    """Makes the cases of one seed, kind after kind. folder: where files are written; kinds: all where none is given."""

    def __init__(self, seed: int, folder: Path, kinds: Sequence[str] = ()) -> None:
        rng = random.Random(seed)
        self.folder = folder
        everything = {**Loading(rng, folder).makers(), **Commands(rng, folder).makers()}
        unknown = sorted(set(kinds) - set(everything))
        if unknown:
            raise InputError(f"there is no kind {', '.join(unknown)}; there are {', '.join(everything)}")
        self.makers = {kind: everything[kind] for kind in kinds or everything}

    def cases(self) -> Iterator[Case]:
        while True:
            for make in self.makers.values():
                yield make()


def problem(case: Case) -> str:
    """What is wrong with how a case was taken; empty where it was taken or refused in one line, within the limits."""
    start, began = time.process_time(), time.perf_counter()
    try:
        found, refused = case.act(), ""
    except (InputError, EngineError) as error:
        found, refused = "", str(error)
    except Exception:
        return traceback.format_exc(limit=-3)
    seconds = max(time.process_time() - start, (time.perf_counter() - began) / 10)
    if found:
        return found
    if "\n" in refused or len(refused) > 1500:
        return f"a message of {len(refused)} letters: {refused[:300]!r}"
    if seconds > MAX_SECONDS:
        return f"took {seconds:.0f} s"
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024
    return f"the process grew to {peak:.0f} MB" if peak > MAX_MEGABYTES else ""


def run(
    seed: int, keep: Optional[Path], enough: Callable[[int], bool], kinds: Sequence[str] = ()
) -> Tuple[Dict[str, int], List[str]]:
    """Judge the cases of a seed until there are enough; returns how many of each sort there were, and the problems."""
    counts: Dict[str, int] = {}
    problems: List[str] = []
    with tempfile.TemporaryDirectory(prefix="detparity-fuzz-") as folder:
        for number, case in enumerate(Fuzzer(seed, Path(folder), kinds).cases()):
            if enough(number):
                break
            counts[case.sort] = counts.get(case.sort, 0) + 1
            found = problem(case)
            if found:
                problems.append(f"case {number} of seed {seed} ({case.sort}): {found}")
                print(problems[-1], flush=True)
                if keep is not None:
                    keep.mkdir(parents=True, exist_ok=True)
                    (keep / f"{seed}-{number}-{case.path.name}").write_bytes(case.path.read_bytes())
    return counts, problems


def main(arguments: Optional[List[str]] = None) -> int:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else "")
    parser.add_argument("--minutes", type=float, default=1.0)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument(
        "--kinds", default="", metavar="NAMES", help="kinds of files, separated by commas (default: all)"
    )
    parser.add_argument("--keep", type=Path, metavar="DIR", help="where files that failed are left")
    options = parser.parse_args(arguments)
    end = time.monotonic() + 60 * options.minutes
    kinds = [kind for kind in options.kinds.split(",") if kind]
    try:
        counts, problems = run(options.seed, options.keep, lambda number: time.monotonic() > end, kinds)
    except InputError as error:
        parser.error(str(error))
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss // 1024
    shown = ", ".join(f"{count} {sort}" for sort, count in sorted(counts.items()))
    print(f"seed {options.seed}: {sum(counts.values())} files ({shown}), {len(problems)} problems, at most {peak} MB")
    return 1 if problems else 0


if __name__ == "__main__":
    sys.exit(main())
