"""Strategies for what is fed to a detector: image sizes, batches, pictures. Every draw shrinks towards the plainest case."""

from __future__ import annotations

from typing import Sequence, Tuple

from hypothesis import strategies as st

from detparity.core.case import Case, Space
from detparity.core.errors import InputError
from detparity.core.vocabulary import Size
from detparity.inputs.scenes import Scene, scene

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
