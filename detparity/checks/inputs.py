"""The cases checks of numbers are run on: pictures in a batch, a size that is cheap, the space drawn from."""

from __future__ import annotations

from typing import Any, Callable, Dict, List, Optional, Sequence, Tuple

import numpy as np

from detparity.checks.context import Context
from detparity.core.case import Case, Space
from detparity.core.contract import Contract, largest_size
from detparity.core.errors import EngineError
from detparity.core.findings import CannotRun, Finding
from detparity.core.vocabulary import Picture, Size
from detparity.inputs import images

PIXELS = 4 * 640 * 640  # of different pictures in one batch: each costs a run of the model in float64
FEWEST = 3  # different pictures in a batch of more


def pictures(batch: int, kind: str = "noise", seed: int = 0, size: Optional[Size] = None) -> Tuple[Picture, ...]:
    """A batch of pictures, the first of the kind asked for. All are different; where a size is given, no more than `distinct` are,
    and the others come again in an order that no shift or reversal of the batch leaves as it is."""
    count = distinct(batch, size) if size else batch
    if count == batch:
        others = [(("noise", "natural", "scene")[slot % 3], seed + slot) for slot in range(1, batch)]
        return ((kind, seed), *others)
    some = [(("noise", "natural", "scene")[slot % 3], slot) for slot in range(1, count)]  # of one seed, for all cases
    drawn = np.random.default_rng([batch, count]).integers(0, count - 1, batch - count)
    return ((kind, seed), *some, *(some[index] for index in drawn))


def cases_of(batch: int, some: Sequence[str], seed: int, size: Size) -> List[Case]:
    """Cases that between them hold pictures of these kinds: one a kind; of a batch whose pictures are not all different, as many kinds
    a case as it has different pictures."""
    count = distinct(batch, size)
    if count == batch:
        return [Case(size, pictures(batch, kind, seed)) for kind in some]
    cases = []
    for start in range(0, len(some), count):
        first = [(kind, seed) for kind in some[start : start + count]]
        first += [("noise", seed + 1 + slot) for slot in range(FEWEST - len(first))]
        drawn = np.random.default_rng([batch, len(first)]).integers(0, len(first), batch - len(first))
        cases.append(Case(size, (*first, *(first[index] for index in drawn))))
    return cases


def distinct(batch: int, size: Size) -> int:
    """How many different pictures a batch holds at a size."""
    return min(batch, max(FEWEST, PIXELS // (size[0] * size[1])))


def slots_note(contract: Contract) -> str:
    """What a report says of a batch whose pictures are not all different; empty where they are."""
    count = distinct(contract.batch, contract.size)
    return f", {contract.batch} images of {count} different pictures" if count < contract.batch else ""


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


def failing_cases(context: Context, check_id: str) -> List[Case]:
    """The cases on which a check found that numbers or detections differ: what another check tries first, to see the same there."""
    evidence = [finding.evidence for finding in context.outcome(check_id).findings]
    cases = [found["case"] for found in evidence if "out_of_bounds" in found or "kinds" in found]
    return [case for case in cases if isinstance(case, Case)]


def first_photo(
    context: Any, check: str, batch: Optional[int], compare: Callable[[Any, Case], List[Finding]]
) -> List[Finding]:
    """The findings about the first of the user's pictures that has any; those that passed in an earlier run are left out."""
    cases = photo_cases(context.photos, context.contract.size, batch)
    for number, case in enumerate(cases, 1):
        context.progress(number, len(cases))
        if context.earlier.passed(check, case):
            continue
        found = compare(context, case)
        if found:
            return found
        context.earlier.passes(check, case)
    return []


def photo_cases(photos: Sequence[Picture], size: Size, batch: Optional[int]) -> List[Case]:
    """The user's pictures one by one, or in batches where the file has one size of them; the last one is filled up from the first.

    Raises CannotRun where there are none."""
    if not photos:
        raise CannotRun("no pictures were given (--images)", hides=False)
    count = batch or 1
    return [
        Case(size, tuple(photos[(first + slot) % len(photos)] for slot in range(count)))
        for first in range(0, len(photos), count)
    ]


def first_case(context: Context) -> Case:
    """Noise at the declared size and batch."""
    return Case(context.contract.size, pictures(context.contract.batch, size=context.contract.size))


def reported_case(context: Context, size: Optional[Size] = None) -> Case:
    """What the report's table of floors and errors is measured on, at the declared size and batch: the mosaic, which two float32 runs
    decide less often than the noise; of a quick run the noise, the one picture that it shows a file of one size. size: another."""
    kind, size = "noise" if context.quick else "mosaic", size or context.contract.size
    return Case(size, pictures(context.contract.batch, kind, size=size))


def kinds(context: Context) -> Tuple[str, ...]:
    """Kinds of pictures that between them show what depends on a picture: one by one where a small picture will do, in few where the
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
