"""The reference of one detector: its float64 values and noise floor on any image, computed once and stored within a budget.

Most files are right, so most of the work is never done. What is near enough to one float32 run, beside how far that is from another,
is within its limits whatever float64 gives (`noise_floor.surely_within`). The floor is the largest error of several ways of running
float32, so it only grows with each of them: what is within the floor of some is within the floor of all.
"""

from __future__ import annotations

import random
import time
from collections import Counter, OrderedDict
from dataclasses import dataclass, replace
from typing import Any, Callable, Dict, Hashable, Iterator, List, Mapping, Optional, Sequence, Tuple, TypeVar

import numpy as np

from detparity.core import allocator
from detparity.core.array_cache import ArrayCache
from detparity.core.clock import Clock
from detparity.core.errors import InputError
from detparity.core.precision import FLOAT32, LEAST_ERROR
from detparity.core.vocabulary import Arrays, ModelFacts, Picture, Size
from detparity.engines.reference_cache import Known, ReferenceCache, agree
from detparity.inputs import images
from detparity.oracle.noise_floor import Pair, Truth, larger, make_pair, make_truth

BUDGET_BYTES = 300_000_000
IN_VAIN = 3  # images of a size on which two float32 runs are tried although they did not suffice
AUDITED = 64  # one entry of the cache in so many is worked out again and compared
Worth = TypeVar("Worth")
_Find = Callable[[ReferenceCache, np.ndarray, Sequence[str]], Optional[Known]]


@dataclass(frozen=True)
class Ways:
    """How to run the model: `exact` in float64, and the `ways` of a precision, by name. Each takes a feed and returns named arrays.
    large: of which sizes an image takes so much memory that `doubled`, which runs two of them, is left out."""

    exact: Callable[[Arrays], Arrays]
    ways: Mapping[str, Callable[[Arrays], Arrays]]
    precision: str = FLOAT32
    large: Callable[[Size], bool] = lambda size: False
    doubled: str = ""


class Oracle:
    """Answers `truth(picture, size, head)`; `heads` are those it will be asked for, the decoded one always, all worked out from the
    same runs. cache: where earlier runs and other processes left answers. `asked` counts the questions, `worked_out` the images that
    were run for them; `notes` has what a user should know of the cache."""

    def __init__(
        self, facts: ModelFacts, ways: Ways, heads: Sequence[str] = ("grid",), cache: Optional[ReferenceCache] = None
    ) -> None:
        self.facts = facts
        self.asked = self.worked_out = 0
        self.slowest = 0.0  # seconds of the slowest run so far, for one image
        self.notes: List[str] = []
        self._cache = cache
        self._audit = random.SystemRandom()  # which entries are compared changes from run to run; the values do not
        self._ways = ways
        self._heads = tuple(dict.fromkeys((*heads, "grid")))
        self._stored: OrderedDict[Tuple[Picture, Size], Known] = OrderedDict()
        self._latest: Tuple[Optional[Tuple[Picture, Size]], Dict[str, Arrays]] = (None, {})  # of one image, its runs
        self._shown: Optional[Tuple[Picture, Size]] = None  # what reports show, which later checks ask for again
        self._in_vain: Counter[Size] = Counter()  # how often two float32 runs were followed by one in float64
        self._once: Dict[Hashable, Any] = {}

    @property
    def precision(self) -> str:
        """The precision whose noise this is."""
        return self._ways.precision

    @property
    def ways(self) -> Tuple[str, ...]:
        """Names of the runs that the noise is measured by."""
        return tuple(self._ways.ways)

    def is_large(self, size: Size) -> bool:
        """Whether an image of this size takes so much memory that less is run with it."""
        return self._ways.large(size)

    def _ways_of(self, size: Size) -> Tuple[str, ...]:
        return tuple(name for name in self.ways if name != self._ways.doubled or not self._ways.large(size))

    def once(self, key: Hashable, work_out: Callable[[], Worth]) -> Worth:
        """What follows from the model alone and is the same for all its artifacts: worked out at the first call with this key."""
        if key not in self._once:
            self._once[key] = work_out()
        found: Worth = self._once[key]
        return found

    def truth(self, picture: Picture, size: Size, head: str) -> Truth:
        """The truth of one image (kind, seed) at a size, for the `raw` or the `grid` head, its floor that of all ways."""
        key = (picture, size)
        return self._grown(key, self._found(key), self._ways_of(size)).truths[head]

    def reported(self, picture: Picture, size: Size, head: str) -> Truth:
        """The truth whose floor a report shows: as `truth`, of a large image that of two runs and of what was run besides."""
        self._shown = key = (picture, size)
        names = self._ways_of(size)
        return self._grown(key, self._found(key), names[:2] if self.is_large(size) else names).truths[head]

    def growing(self, picture: Picture, size: Size, head: str) -> Iterator[Truth]:
        """The same truth with the floor of what was run, then of one more run at a time: a caller that accepts one stops there."""
        key = (picture, size)
        known = self._found(key)
        yield known.truths[head]
        for name in self._ways_of(size):
            if name not in known.ways:
                known = self._grown(key, known, (name,))
                yield known.truths[head]

    def pair(self, picture: Picture, size: Size, head: str) -> Optional[Pair]:
        """Two float32 runs of an image, where they may spare its float64 run: None where the truth is known, here or in the cache, and
        where they did not spare those of some other images of this size."""
        key = (picture, size)
        if len(self._ways.ways) < 2:
            return None
        known = (
            self._stored.get(key) or self._read(key, ReferenceCache.find) or self._read(key, ReferenceCache.find_pairs)
        )
        if known is None and self._in_vain[size] >= IN_VAIN:
            return None
        if known is None:
            known = self._run_two(key)
            self._leave(key, known)
        self._keep(key, known)
        if known.truths:
            return None
        self.asked += 1
        return known.pairs[head]

    def run_again(self, picture: Picture, size: Size) -> float:
        """Seconds of the slowest run so far, after running the exact model once more, as this machine is now."""
        self._timed(self._ways.exact, _feed((picture, size)))
        return self.slowest

    def _found(self, key: Tuple[Picture, Size]) -> Known:
        self.asked += 1
        known = self._stored.get(key)
        if known is None or not known.truths:
            if known is not None:  # the float64 run of this image was not spared
                self._in_vain[key[1]] += 1
            stored = self._read(key, ReferenceCache.find)
            self._keep(key, self._begun(key) if stored is None else stored)
        self._stored.move_to_end(key)
        return self._stored[key]

    def _begun(self, key: Tuple[Picture, Size]) -> Known:
        """The exact run and the first float32 run, or those that this image was run in."""
        known = self._run_first(key)
        self._leave(key, known)
        return known

    def _run_first(self, key: Tuple[Picture, Size]) -> Known:
        self.worked_out += 1
        start = time.perf_counter()
        found = self._timed(self._ways.exact, _feed(key))
        seconds = time.perf_counter() - start
        exact = tuple(value[0] for name, value in found.items() if name.startswith("logits"))
        before = self._latest[1] if self._latest[0] == key else {}
        names = tuple(name for name in self.ways if name in before) or self.ways[:1]
        return Known(self._made(key, exact, names), exact, names, seconds)

    def _run_two(self, key: Tuple[Picture, Size]) -> Known:
        self.worked_out += 1
        start = time.perf_counter()
        one, other = self._timed(lambda _: self._two(key), {})
        seconds = time.perf_counter() - start
        pairs = {
            head: make_pair(head, self.facts, key[1], _of_head(head, one), _of_head(head, other))
            for head in self._heads
        }
        return Known({}, seconds=seconds, pairs=pairs)

    def _two(self, key: Tuple[Picture, Size]) -> Tuple[Arrays, Arrays]:
        """The first float32 run of an image, and the first after it of other bits: torch 1.7 has one kernel for two of them."""
        one = other = self._run(key, self.ways[0])
        for name in self.ways[1:]:
            other = self._run(key, name)
            if any(not np.array_equal(values, other[output]) for output, values in one.items()):
                break
        return one, other

    def _run(self, key: Tuple[Picture, Size], name: str) -> Arrays:
        """One of the float32 runs of an image; those of the latest image are not repeated."""
        if self._latest[0] != key:
            self._latest = (key, {})
        runs = self._latest[1]
        if name not in runs:
            runs[name] = self._ways.ways[name](_feed(key))
        return runs[name]

    def _timed(self, run: Callable[[Arrays], Worth], feed: Arrays) -> Worth:
        start = time.perf_counter()
        found = run(feed)
        self.slowest = max(self.slowest, time.perf_counter() - start)
        return found

    def _read(self, key: Tuple[Picture, Size], find: _Find) -> Optional[Known]:
        """What the cache has of an image; one entry in `AUDITED` is worked out again and compared, and replaced where it differs."""
        found = None if self._cache is None else find(self._cache, _image(key), self._heads)
        if found is not None:
            self.slowest = max(self.slowest, found.seconds)
        if found is None or self._audit.randrange(AUDITED):
            return found
        self._latest = (None, {})
        again = self._run_two(key) if found.pairs else self._with(key, self._run_first(key), found.ways)
        if agree(found, again):
            return found
        self.notes.append(
            f"the stored reference of picture {key[0]} at {key[1]} was not what the model gives: it was worked out again. "
            "This is a bug of detparity, please report it"
        )
        self._leave(key, again)
        return again

    def _leave(self, key: Tuple[Picture, Size], known: Known) -> None:
        if self._cache is None:
            return
        try:
            self._cache.leave(_image(key), known)
        except InputError as error:
            self.notes.append(f"no references are stored: {error}")
            self._cache = None

    def _grown(self, key: Tuple[Picture, Size], known: Known, names: Sequence[str]) -> Known:
        """With the floors of these ways as well, unless another process has run them meanwhile."""
        if set(names) <= set(known.ways):
            return known
        stored = None if self._cache is None else self._cache.find(_image(key), self._heads)
        if stored is None or not {*known.ways, *names} <= set(stored.ways):
            stored = self._with(key, known, names)
            self._leave(key, stored)
        return self._keep(key, stored)

    def _with(self, key: Tuple[Picture, Size], known: Known, names: Sequence[str]) -> Known:
        """What is known, with the floors of these ways as well."""
        more = tuple(name for name in names if name not in known.ways)
        if not more:
            return known
        made = self._made(key, known.exact, more)
        floors = {head: larger(truth.floor, made[head].floor) for head, truth in known.truths.items()}
        truths = {head: replace(truth, floor=floors[head]) for head, truth in known.truths.items()}
        return replace(known, truths=truths, ways=(*known.ways, *more))

    def _made(self, key: Tuple[Picture, Size], exact: Sequence[np.ndarray], names: Sequence[str]) -> Dict[str, Truth]:
        """The truths, with the floors of these ways."""
        runs = [self._run(key, name) for name in names]
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
        """Keep this and let go of what was longest unused, of what reports show last, while there is more than the budget."""
        complete = set(self._ways_of(key[1])) <= set(known.ways)
        self._stored[key] = known = replace(known, exact=()) if complete else known
        over = sum(one.nbytes for one in self._stored.values()) - BUDGET_BYTES
        for one in sorted(self._stored, key=lambda one: one == self._shown):
            if one != key and over > 0:
                over -= self._stored.pop(one).nbytes
        return known


def _feed(key: Tuple[Picture, Size]) -> Dict[str, np.ndarray]:
    return {"images": _image(key)[None]}


def _image(key: Tuple[Picture, Size]) -> np.ndarray:
    (kind, seed), size = key
    return images.make(kind, size, seed)


def _of_head(head: str, run: Arrays) -> Arrays:
    if head == "grid":
        return {"output": run["predictions"]}
    return {name: value for name, value in run.items() if name.startswith("logits")}


def make_oracle(
    detector: Any,
    clock: Clock,
    heads: Tuple[str, ...],
    cache: Optional[ArrayCache] = None,
    precision: str = FLOAT32,
) -> Oracle:
    """The oracle of a detector, its runs counted on `clock`, its noise that of a precision. cache: where earlier runs and other
    processes store references."""
    from detparity.engines import eager, half

    def timed(run_name: str) -> Callable[[Arrays], Arrays]:
        runner = half.prepare(detector, run_name) if " " in run_name else eager.prepare(detector, run_name)

        def call(feed: Arrays) -> Arrays:
            with clock.running():
                found = runner.call(feed)
            if detector.is_large(feed["images"].shape[2:]):
                allocator.return_freed_memory()
            return found

        return call

    names = eager.WAYS if precision == FLOAT32 else half.ways(precision)
    ways = Ways(timed("exact"), {name: timed(name) for name in names}, precision, detector.is_large, eager.DOUBLED)
    how = eager.computing() + (f" {precision}" if precision != FLOAT32 else "")
    stored = None if cache is None else ReferenceCache(cache, detector.facts, how)
    return Oracle(detector.facts, ways, heads, stored)
