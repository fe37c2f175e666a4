"""Strategies for what is fed to a detector: image sizes, batches, pictures. Every draw shrinks towards the plainest case."""

from __future__ import annotations

from dataclasses import replace
from typing import List, Sequence, Tuple

from hypothesis import strategies as st

from detparity.core.case import Case, Judge, Space
from detparity.core.errors import InputError
from detparity.core.findings import Finding
from detparity.core.vocabulary import Size
from detparity.inputs.scenes import Scene, scene
from detparity.inputs.search import smallest_failure

SEEDS = 40


def sizes(*, stride: int, least: int = 0, most: int) -> st.SearchStrategy[Size]:
    """Return a strategy for image sizes (height, width), each side a multiple of `stride` on its own.

    - `stride`: pixels; `least`: smallest side, default one stride; `most`: largest side.

    Examples shrink towards the smallest square. Drawn for stride 32, most 320: (32, 32), (96, 32), (320, 64), (160, 288).
    """
    low, high = max(1, least // stride), most // stride
    if low > high:
        raise InputError(f"no size between {least} and {most} is a multiple of the stride {stride}")
    side = st.integers(low, high).map(lambda count: count * stride)
    return st.tuples(side, side)


def pictures(*, kinds: Sequence[str]) -> st.SearchStrategy[Tuple[str, int]]:
    """Return a strategy for one picture (kind, seed) of `detparity.inputs.images`; shrinks towards the first kind and seed 0.

    Drawn for noise, natural and scene: ("noise", 0), ("scene", 3), ("natural", 17).
    """
    return st.tuples(st.sampled_from(list(kinds)), st.integers(0, SEEDS - 1))


def scenes(*, stride: int = 32, least: int = 0, most: int) -> st.SearchStrategy[Scene]:
    """Return a strategy for pictures with a truth (`detparity.inputs.scenes`), of sizes as `sizes` draws them; shrinks towards the
    smallest square and seed 0, which has one object.

    Drawn for most 320: a circle in 32x32, six objects in 192x160.
    """
    return st.builds(scene, sizes(stride=stride, least=least, most=most), st.integers(0, SEEDS - 1))


def cases(space: Space) -> st.SearchStrategy[Case]:
    """Return a strategy for the cases of `space`: one size, then a batch of pictures drawn slot by slot.

    Examples shrink towards a small square image, a batch of the least size, and noise of seed 0.
    """
    size = st.just(space.only) if space.only else sizes(stride=space.stride, least=space.least, most=space.most)
    low, high = space.batches
    batch = st.lists(pictures(kinds=space.kinds), min_size=low, max_size=high)
    return st.builds(lambda size, batch: Case(size, tuple(batch)), size, batch)


def explore(space: Space, judge: Judge) -> Sequence[Finding]:
    """Try the cases a space names, then drawn ones; return the findings of the smallest case found to fail.

    Deterministic: the draws depend on the space alone. After a failure only smaller cases of the same space are tried.
    """
    for case in space.always:
        found = judge(case)
        if found:
            return _smallest(space, judge, case, found)
    return smallest_failure(cases(space), judge, space.draws) if space.draws else ()


def glance(space: Space, judge: Judge) -> Sequence[Finding]:
    """What `detparity check --quick` does instead of `explore`: the first of the cases a space names, and no drawn ones."""
    return explore(replace(space, always=space.always[:1], draws=0), judge)


def _smallest(space: Space, judge: Judge, case: Case, found: Sequence[Finding]) -> Sequence[Finding]:
    """Shrink a named case by hand: fewer pictures, plainer pictures, smaller sides, while it still fails."""
    current, best = case, found
    improved = True
    while improved:
        improved = False
        for smaller in _smaller(space, current):
            result = judge(smaller)
            if result:
                current, best, improved = smaller, result, True
                break
    return best


def _smaller(space: Space, case: Case) -> List[Case]:
    found: List[Case] = []
    low, _ = space.batches
    if len(case.pictures) > low:
        found.append(Case(case.size, case.pictures[: max(low, len(case.pictures) // 2)]))
    if space.only is None:
        for size in _smaller_sizes(case.size, space.stride, space.least):
            found.append(Case(size, case.pictures))
    plain = tuple((space.kinds[0], slot) for slot in range(len(case.pictures)))
    if plain != case.pictures:
        found.append(Case(case.size, plain))
    return found


def _smaller_sizes(size: Size, stride: int, least: int) -> List[Size]:
    height, width = size
    halves = [max(least, side // 2 // stride * stride) for side in size]
    sizes = [(halves[0], halves[1]), (halves[0], width), (height, halves[1])]
    sizes += [(height - stride, width)] if height > least else []
    sizes += [(height, width - stride)] if width > least else []
    return [candidate for candidate in sizes if candidate != size]
