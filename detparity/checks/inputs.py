"""The cases checks of numbers are run on: pictures in a batch, a size that is cheap, the space drawn from."""

from __future__ import annotations

from typing import Any, Dict, Sequence, Tuple

import numpy as np

from detparity.checks.context import Context
from detparity.core.case import Case, Space
from detparity.core.contract import largest_size
from detparity.core.vocabulary import EngineError, Picture, Size
from detparity.inputs import images


def pictures(batch: int, kind: str = "noise", seed: int = 0) -> Tuple[Picture, ...]:
    """A batch of different pictures, the first of the kind asked for."""
    others = [(("noise", "natural", "scene")[slot % 3], seed + slot) for slot in range(1, batch)]
    return ((kind, seed), *others)


def space(context: Context, always: Sequence[Case], draws: int = 0, **choices: Any) -> Space:
    """The cases named, then drawn ones from what the contract lets vary; `choices` narrow it."""
    contract, stride = context.contract, context.facts.max_stride
    chosen: Dict[str, Any] = {"stride": stride, "least": stride, "most": largest_size(contract)[0]}
    if not contract.variant.dynamic_size:
        chosen["only"] = contract.size
    if not contract.variant.dynamic_batch:
        chosen["batches"] = (contract.batch, contract.batch)
    chosen.update(choices)
    return Space(tuple(always), draws, **chosen)


def first_case(context: Context) -> Case:
    """Noise at the declared size and batch: what the report's table of floors and errors is measured on."""
    return Case(context.contract.size, pictures(context.contract.batch))


def kinds(context: Context) -> Tuple[str, ...]:
    """Kinds of pictures that between them show what hangs on a picture: one by one where a small picture will do, in few where the
    size is fixed and each of them costs a run of the model in float64."""
    one_by_one = tuple(kind for kind in images.KINDS if kind != "mosaic")
    return one_by_one if context.contract.variant.dynamic_size else images.FEW


def cheap_size(context: Context) -> Size:
    """The declared size where it is fixed; else one that is small and not square, if the file runs at it: where it does not,
    the check of sizes says so, and the others judge what is left."""
    contract, stride = context.contract, context.facts.max_stride
    small = (min(contract.size[0], 5 * stride), min(contract.size[1], 7 * stride))
    if not contract.variant.dynamic_size:
        return contract.size
    try:
        context.run(np.zeros((1, 3, *small), np.float32))
    except EngineError:
        return contract.size
    return small
