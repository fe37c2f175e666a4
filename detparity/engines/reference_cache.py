"""References on disk: what is known of one image under one model, for other files, other processes and later runs.

An entry holds the float64 logits and the noise floors (the predictions follow from the logits), or a float32 run and its distance
from another. It is found again only by the same model, pixels, heads, version of this code and way of computing (versions, build,
processor, threads).
"""

from __future__ import annotations

import functools
import hashlib
from dataclasses import dataclass, field
from typing import Callable, Dict, Mapping, Optional, Sequence, Tuple, Union

import numpy as np

from detparity.core import resources
from detparity.core.array_cache import ArrayCache
from detparity.core.vocabulary import ModelFacts, Size
from detparity.oracle.noise_floor import GROUPS, STATISTICS, Key, Pair, Stats, Truth, levels_of, measure

# Of a floor: two processes gave the same bits (yolov7-tiny, full width, 320x320), which no kernel promises for other alignments.
REPEATABLE = 0.05
CODE = ("core", "engines", "inputs", "models", "oracle")  # folders of the package that decide what a reference is


@dataclass(frozen=True)
class Known:
    """What is known of one image: the truths by head, the float64 logits while they are needed, the ways that the floors are of, and
    the seconds that the exact run took; or, while no truth is known, two float32 runs by head, and their seconds."""

    truths: Mapping[str, Truth]
    exact: Tuple[np.ndarray, ...] = ()
    ways: Tuple[str, ...] = ()
    seconds: float = 0.0
    pairs: Mapping[str, Pair] = field(default_factory=dict)

    @functools.cached_property
    def nbytes(self) -> int:
        every: Sequence[Union[Truth, Pair]] = (*self.truths.values(), *self.pairs.values())
        return sum(array.nbytes for array in (*(level for one in every for level in one.levels), *self.exact))


@dataclass(frozen=True)
class ReferenceCache:
    """What is known of images under one model. how: of the computing, as `eager.computing()` has it."""

    cache: ArrayCache
    facts: ModelFacts
    how: str

    def _key(self, image: np.ndarray, heads: Sequence[str], *what: str) -> str:
        pixels = hashlib.sha256(np.ascontiguousarray(image).tobytes()).hexdigest()
        return repr((self.facts.digest, image.shape, pixels, sorted(heads), self.how, code_digest(), *what))

    def find(self, image: np.ndarray, heads: Sequence[str]) -> Optional[Known]:
        """What is known with the truth. image: (3, H, W), float32."""
        return self._found(self._key(image, heads), lambda arrays: self._known(image.shape[1:], heads, arrays))

    def find_pairs(self, image: np.ndarray, heads: Sequence[str]) -> Optional[Known]:
        """What is known without."""
        return self._found(self._key(image, heads, "pairs"), lambda arrays: self._pairs(image.shape[1:], heads, arrays))

    def _found(self, name: str, read: Callable[[Mapping[str, np.ndarray]], Known]) -> Optional[Known]:
        arrays = self.cache.find(name)
        if arrays is None:
            return None
        try:
            return read(arrays)
        except (KeyError, ValueError, IndexError, TypeError):  # a file of that name, but nothing of ours
            self.cache.remove(name)
            return None

    def _known(self, size: Size, heads: Sequence[str], arrays: Mapping[str, np.ndarray]) -> Known:
        exact = tuple(
            _array(arrays[f"exact-{level}"], (self.facts.anchors_per_level, *cells, self.facts.fields))
            for level, cells in enumerate(self.facts.cells(size))
        )
        truths = {
            head: Truth(levels_of(head, self.facts, exact)[0], self._stats(arrays[f"{head}-floor"]), head, size)
            for head in heads
        }
        return Known(truths, exact, tuple(map(str, arrays["ways"])), _seconds(arrays))

    def _stats(self, values: np.ndarray) -> Dict[Key, Stats]:
        return _stats_of(_array(values, (len(self.facts.strides), len(GROUPS), len(STATISTICS))))

    def _pairs(self, size: Size, heads: Sequence[str], arrays: Mapping[str, np.ndarray]) -> Known:
        pairs = {}
        for head in heads:
            levels = tuple(
                _array(arrays[f"{head}-{level}"], (rows, self.facts.fields))
                for level, rows in enumerate(self.facts.level_rows(size))
            )
            pairs[head] = Pair(levels, self._stats(arrays[f"{head}-apart"]), head, size)
        return Known({}, seconds=_seconds(arrays), pairs=pairs)

    def leave(self, image: np.ndarray, known: Known) -> None:
        """Store it for others. Raises InputError where the folder cannot be written to."""
        arrays: Dict[str, np.ndarray] = {"ways": np.array(known.ways, str), "seconds": np.array(known.seconds)}
        arrays.update({f"exact-{level}": values for level, values in enumerate(known.exact)})
        for head, truth in known.truths.items():
            arrays[f"{head}-floor"] = floors_of(truth.floor)
        for head, pair in known.pairs.items():
            arrays[f"{head}-apart"] = floors_of(pair.apart)
            arrays.update({f"{head}-{level}": values for level, values in enumerate(pair.levels)})
        what = ("pairs",) if known.pairs else ()
        self.cache.leave(self._key(image, list(known.truths or known.pairs), *what), arrays)


def _array(values: np.ndarray, shape: Tuple[int, ...]) -> np.ndarray:
    """Numbers as they were stored. Raises ValueError for what no reference can be."""
    if values.shape != shape or values.dtype.kind != "f" or np.isnan(values).any():
        raise ValueError(f"{values.dtype} {values.shape} is no part of a reference")
    return values


def _seconds(arrays: Mapping[str, np.ndarray]) -> float:
    found = float(arrays["seconds"])
    if not 0 <= found < np.inf:
        raise ValueError(f"{found} seconds are no time")
    return found


def _stats_of(values: np.ndarray) -> Dict[Key, Stats]:
    return {
        (level, group): Stats(*map(float, values[level, column]))
        for level in range(len(values))
        for column, group in enumerate(GROUPS)
    }


def floors_of(stats: Mapping[Key, Stats]) -> np.ndarray:
    """Statistics of every group on every level, (levels, groups, statistics)."""
    levels = range(len(stats) // len(GROUPS))
    return np.array(
        [[[getattr(stats[level, group], name) for name in STATISTICS] for group in GROUPS] for level in levels]
    )


@functools.cache
def code_digest() -> str:
    """A digest of the source files that decide what a reference is, so that another version of them finds nothing."""
    total = hashlib.sha256()
    root = resources.PACKAGE
    for path in sorted(path for folder in CODE for path in (root / folder).rglob("*.py")):
        total.update(path.relative_to(root).as_posix().encode() + b"\0" + path.read_bytes())
    return total.hexdigest()


def agree(one: Known, other: Known) -> bool:
    """Whether two workings-out of one image by the same runs agree: values to the noise of float64, floors to what is repeatable."""
    return all(
        _near(truth.levels, other.truths[head].levels, 1e-9)
        and _near([floors_of(truth.floor)], [floors_of(other.truths[head].floor)], REPEATABLE)
        for head, truth in one.truths.items()
    ) and all(
        _near([floors_of(pair.apart)], [floors_of(other.pairs[head].apart)], REPEATABLE)
        and np.all(floors_of(measure(pair.levels, other.pairs[head].levels)) <= REPEATABLE * floors_of(pair.apart))
        for head, pair in one.pairs.items()
    )


def _near(one: Sequence[np.ndarray], other: Sequence[np.ndarray], relative: float) -> bool:
    return all(
        mine.shape == theirs.shape and np.allclose(mine, theirs, rtol=relative, atol=1e-9, equal_nan=True)
        for mine, theirs in zip(one, other)
    )
