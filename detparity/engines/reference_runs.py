"""The reference of one detector: its float64 values and noise floor on any image, computed once and stored within a budget.

The floor is the largest error of several ways of running float32, so it only grows with each of them: what is within the floor of
the first is within the floor of all, and the others need not be run. Most files are right, so most of the work is never done.
"""

from __future__ import annotations

import hashlib
import io
import time
from collections import OrderedDict
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Callable, Dict, Hashable, Iterator, Mapping, Optional, Sequence, Tuple, TypeVar

import numpy as np

from detparity.core.clock import Clock
from detparity.core.files import write_bytes
from detparity.core.precision import FLOAT32, LEAST_ERROR
from detparity.core.vocabulary import Arrays, ModelFacts, Picture, Size
from detparity.inputs import images
from detparity.oracle.noise_floor import GROUPS, STATISTICS, Stats, Truth, larger, make_truth

BUDGET_BYTES = 300_000_000
Worth = TypeVar("Worth")


@dataclass(frozen=True)
class Ways:
    """How to run the model: `exact` in float64, and the `ways` of a precision, by name. Each takes a feed and returns named arrays."""

    exact: Callable[[Arrays], Arrays]
    ways: Mapping[str, Callable[[Arrays], Arrays]]
    precision: str = FLOAT32


@dataclass(frozen=True)
class Known:
    """What is known of one image: the truths by head, and for as long as ways of the floor are left to run, the float64 logits."""

    truths: Mapping[str, Truth]
    exact: Tuple[np.ndarray, ...] = ()

    @property
    def nbytes(self) -> int:
        levels = [level for truth in self.truths.values() for level in truth.levels]
        return sum(array.nbytes for array in (*levels, *self.exact))


class Shelf:
    """A folder where processes that ask about one model leave what they know for each other. Files appear complete, by renaming, and
    two processes that work out the same image write the same numbers, so none waits for another."""

    def __init__(self, folder: Path, model: str) -> None:
        self._folder = folder
        self._model = model

    def _path(self, key: Tuple[Picture, Size], heads: Sequence[str]) -> Path:
        digest = hashlib.sha256(repr((self._model, key, sorted(heads))).encode()).hexdigest()
        return self._folder / f"{digest[:32]}.npz"

    def find(self, key: Tuple[Picture, Size], heads: Sequence[str]) -> Optional[Known]:
        """What another process left, if any did."""
        path = self._path(key, heads)
        if not path.exists():
            return None
        with np.load(str(path)) as found:
            levels = int(found["levels"])
            truths = {}
            for head in heads:
                floor = {
                    (level, group): Stats(*map(float, found[f"{head}-floor"][level, column]))
                    for level in range(levels)
                    for column, group in enumerate(GROUPS)
                }
                truths[head] = Truth(tuple(found[f"{head}-{level}"] for level in range(levels)), floor, head, key[1])
            exact = tuple(found[f"exact-{level}"] for level in range(levels)) if "exact-0" in found else ()
        return Known(truths, exact)

    def leave(self, key: Tuple[Picture, Size], known: Known) -> None:
        arrays: Dict[str, np.ndarray] = {}
        for head, truth in known.truths.items():
            arrays["levels"] = np.array(len(truth.levels))
            arrays.update({f"{head}-{level}": values for level, values in enumerate(truth.levels)})
            arrays[f"{head}-floor"] = np.array(
                [
                    [[getattr(truth.floor[level, group], name) for name in STATISTICS] for group in GROUPS]
                    for level in range(len(truth.levels))
                ]
            )
        arrays.update({f"exact-{level}": values for level, values in enumerate(known.exact)})
        written = io.BytesIO()
        np.savez(written, **arrays)  # type: ignore[arg-type]  # its stubs know one keyword of their own
        self._folder.mkdir(parents=True, exist_ok=True)
        write_bytes(self._path(key, list(known.truths)), written.getvalue())


class Oracle:
    """Answers `truth(picture, size, head)`; `heads` are those it will be asked for, the decoded one always, all worked out
    from the same runs. shelf: where other processes may have left an answer. `asked` counts the questions, `worked_out` the images
    that were run for them."""

    def __init__(
        self, facts: ModelFacts, ways: Ways, heads: Sequence[str] = ("grid",), shelf: Optional[Shelf] = None
    ) -> None:
        self.facts = facts
        self.asked = self.worked_out = 0
        self.slowest = 0.0  # seconds of the slowest run so far, for one image
        self._shelf = shelf
        self._ways = ways
        self._heads = tuple(dict.fromkeys((*heads, "grid")))
        self._stored: OrderedDict[Tuple[Picture, Size], Known] = OrderedDict()
        self._once: Dict[Hashable, Any] = {}

    @property
    def precision(self) -> str:
        """The precision whose noise this is."""
        return self._ways.precision

    @property
    def ways(self) -> Tuple[str, ...]:
        """Names of the runs that the noise is measured by."""
        return tuple(self._ways.ways)

    def once(self, key: Hashable, work_out: Callable[[], Worth]) -> Worth:
        """What follows from the model alone and is the same for all its artifacts: worked out at the first call with this key."""
        if key not in self._once:
            self._once[key] = work_out()
        found: Worth = self._once[key]
        return found

    def truth(self, picture: Picture, size: Size, head: str) -> Truth:
        """The truth of one image (kind, seed) at a size, for the `raw` or the `grid` head, its floor that of all ways."""
        *_, complete = self.growing(picture, size, head)
        return complete

    def growing(self, picture: Picture, size: Size, head: str) -> Iterator[Truth]:
        """The same truth with the floor of the first run, then with that of all runs: a caller that accepts the former stops there."""
        key = (picture, size)
        known = self._found(key)
        yield known.truths[head]
        if known.exact:
            yield self._keep(key, self._completed(key, known)).truths[head]

    def _found(self, key: Tuple[Picture, Size]) -> Known:
        self.asked += 1
        if key not in self._stored:
            left = self._left(key)
            self._keep(key, self._begun(key) if left is None else left)
        self._stored.move_to_end(key)
        return self._stored[key]

    def _begun(self, key: Tuple[Picture, Size]) -> Known:
        """The exact run and the first float32 run."""
        self.worked_out += 1
        feed = _feed(key)
        exact = tuple(
            value[0] for name, value in self._timed(self._ways.exact, feed).items() if name.startswith("logits")
        )
        known = Known(self._made(key, exact, [next(iter(self._ways.ways.values()))(feed)]), exact)
        self._leave(key, known)
        return known

    def _timed(self, run: Callable[[Arrays], Arrays], feed: Arrays) -> Arrays:
        start = time.perf_counter()
        found = run(feed)
        self.slowest = max(self.slowest, time.perf_counter() - start)
        return found

    def _left(self, key: Tuple[Picture, Size]) -> Optional[Known]:
        return self._shelf.find(key, self._heads) if self._shelf else None

    def _leave(self, key: Tuple[Picture, Size], known: Known) -> None:
        if self._shelf is not None:
            self._shelf.leave(key, known)

    def _completed(self, key: Tuple[Picture, Size], known: Known) -> Known:
        """The other ways as well, unless another process has run them meanwhile."""
        left = self._left(key)
        if left is not None and not left.exact:
            return left
        feed = _feed(key)
        more = self._made(key, known.exact, [run(feed) for run in list(self._ways.ways.values())[1:]])
        complete = Known(
            {head: replace(truth, floor=larger(truth.floor, more[head].floor)) for head, truth in known.truths.items()}
        )
        self._leave(key, complete)
        return complete

    def _made(self, key: Tuple[Picture, Size], exact: Sequence[np.ndarray], runs: Sequence[Arrays]) -> Dict[str, Truth]:
        return {
            head: make_truth(
                head,
                self.facts,
                key[1],
                exact,
                [_of_head(head, run) for run in runs],
                LEAST_ERROR[self._ways.precision],
            )
            for head in self._heads
        }

    def _keep(self, key: Tuple[Picture, Size], known: Known) -> Known:
        """Keep this and let go of what was longest unused, while there is more than the budget."""
        self._stored[key] = known
        while sum(one.nbytes for one in self._stored.values()) > BUDGET_BYTES and len(self._stored) > 1:
            self._stored.popitem(last=False)
        return known


def _feed(key: Tuple[Picture, Size]) -> Dict[str, np.ndarray]:
    (kind, seed), size = key
    return {"images": images.make(kind, size, seed)[None]}


def _of_head(head: str, run: Arrays) -> Arrays:
    if head == "grid":
        return {"output": run["predictions"]}
    return {name: value for name, value in run.items() if name.startswith("logits")}


def make_oracle(
    detector: Any, clock: Clock, heads: Tuple[str, ...], shared: Optional[Path] = None, precision: str = FLOAT32
) -> Oracle:
    """The oracle of a detector, its runs counted on `clock`, its noise that of a precision. shared: a folder where other processes
    leave what they worked out."""
    from detparity.engines import eager, half

    def timed(run_name: str) -> Callable[[Arrays], Arrays]:
        runner = half.prepare(detector, run_name) if " " in run_name else eager.prepare(detector, run_name)

        def call(feed: Arrays) -> Arrays:
            with clock.running():
                return runner.call(feed)

        return call

    names = eager.WAYS if precision == FLOAT32 else half.ways(precision)
    ways = Ways(timed("exact"), {run_name: timed(run_name) for run_name in names}, precision)
    model = detector.facts.digest + (f" {precision}" if precision != FLOAT32 else "")
    return Oracle(detector.facts, ways, heads, Shelf(shared, model) if shared else None)
