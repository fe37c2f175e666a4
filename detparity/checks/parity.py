"""Numbers: the artifact against the float64 truth, within a stated multiple of what float32 itself does (docs/tolerance.md)."""

from __future__ import annotations

from collections import OrderedDict
from dataclasses import replace
from typing import Any, Dict, Iterator, List, Optional, Sequence, Tuple

import numpy as np

from detparity.checks.causes import anchor_note, explained, grid_note
from detparity.checks.context import Context, truth_head
from detparity.checks.inputs import (
    cases_of,
    cheap_size,
    distinct,
    failing_cases,
    first_photo,
    kinds,
    pictures,
    reported_case,
    space,
)
from detparity.core.case import Case
from detparity.core.contract import INFO, MUST, Contract, largest_size
from detparity.core.environment import usable_cores
from detparity.core.errors import EngineDied, EngineError
from detparity.core.findings import CannotRun, Check, Finding, Row, refused
from detparity.core.precision import FLOAT32, HALVES
from detparity.core.text import number
from detparity.core.vocabulary import Arrays, Picture, Size
from detparity.oracle.noise_floor import (
    GROUPS,
    LIMITS,
    UNITS,
    Excess,
    Key,
    Stats,
    Truth,
    excesses,
    measure,
    split_levels,
    surely_within,
)

DECLARED = ("noise", "mosaic")  # kinds of pictures at the declared size, where each costs most
FIELDS = ("x", "y", "w", "h", "objectness")
EVALUATOR_PIXELS = 32 * 64  # 0.2 s of yolov7-tiny; 3.5 s at 256x320, most of it pooling


def compare(context: Context, case: Case, **engine: Any) -> List[Finding]:
    """Run one case and judge every image of the batch against its own truth."""
    try:
        outputs = context.predict(case, **engine)
    except EngineError as error:
        return [refused(error, case)]
    return judge_outputs(context, case, outputs)


def judge_outputs(context: Context, case: Case, outputs: Arrays) -> List[Finding]:
    """Judge what one run produced; the finding of the first image that is out of bounds, if any."""
    wrong = shape_problem(context, case, outputs)
    return [wrong] if wrong else judge_predictions(context, case, outputs, truth_head(context.contract.variant))


def judge_predictions(context: Context, case: Case, outputs: Arrays, head: str) -> List[Finding]:
    """Judge outputs that are what `head`, "raw" or "grid", gives; the finding of the first image that is out of bounds, if any."""
    for slot, picture in enumerate(case.pictures):
        if _repeated(case, outputs, slot):
            continue
        found = out_of_bounds(context, picture, case.size, outputs, slot, head)
        if found is not None:
            return [_difference(context, case, slot, *found)]
    return []


def _repeated(case: Case, outputs: Arrays, slot: int) -> bool:
    """Whether an earlier slot has the same picture and got the same bits."""
    first = case.pictures.index(case.pictures[slot])
    return first < slot and all(np.array_equal(array[first], array[slot]) for array in outputs.values())


def out_of_bounds(
    context: Context, picture: Picture, size: Size, outputs: Arrays, slot: int, head: str
) -> Optional[Tuple[Truth, Sequence[np.ndarray], List[Excess]]]:
    """The truth, the file's levels and what of them lies over its limit under the complete floor; None where nothing does."""
    taken = context.taken(picture)
    pair = None if _reported(context, picture, size) else context.oracle.pair(taken, size, head)
    if pair is not None and surely_within(pair, split_levels(head, context.facts, size, outputs, slot)):
        return None
    found = None
    levels: Sequence[np.ndarray] = ()
    stats: Dict[Key, Stats] = {}
    for truth in context.oracle.growing(taken, size, head):
        if not levels:
            levels = split_levels(truth.head, context.facts, size, outputs, slot)
            stats = measure(truth.levels, levels)
        over = excesses(truth, stats)
        if not over:
            return None
        found = truth, levels, over
    return found


def _reported(context: Context, picture: Picture, size: Size) -> bool:
    """Whether the report's table of floors needs the truth of this image."""
    return not context.quick and (picture, size) == (reported_case(context).pictures[0], context.contract.size)


def shape_problem(context: Context, case: Case, outputs: Arrays) -> Optional[Finding]:
    """A finding where the outputs cannot be compared number by number; nothing is broadcast."""
    expected = context.shapes(len(case.pictures), case.size)
    shapes = [array.shape for array in outputs.values()]
    types = {array.dtype.name for array in outputs.values()}
    allowed = {"float32", context.contract.precision} if context.contract.precision in HALVES else {"float32"}
    if shapes == expected and types <= allowed:
        return None
    rows: List[Row] = [("promised", ", ".join(map(str, expected))), ("produced", ", ".join(map(str, shapes)))]
    if not types <= allowed:
        rows.append(("types", ", ".join(sorted(map(str, types)))))
    what = "types" if shapes == expected else "shapes"
    evidence = {"case": case, "shapes": [list(shape) for shape in shapes]}
    return Finding(f"returns other {what} than promised at {case}.", tuple(rows), evidence=evidence)


def _difference(
    context: Context, case: Case, slot: int, truth: Truth, levels: Sequence[np.ndarray], over: Sequence[Excess]
) -> Finding:
    """Everything a reader needs to know about one image that is out of bounds."""
    worst = over[0]
    values = levels[worst.level]
    unit = UNITS[truth.head][worst.group]
    row, column, cell = worst_position(context, truth, values, worst, case.size)
    reference = truth.levels[worst.level][row, column]
    rows: List[Row] = [
        ("error", f"{number(worst.error)} {unit} {worst.statistic}, {number(worst.floors)} floors"),
        ("floor", f"{number(worst.floor)} {unit}: what {precision_of(context)} itself does to this image"),
        (
            "worst",
            f"model {reference:.7g}   file {values[row, column]:.7g}   difference {number(values[row, column] - reference)}",
        ),
        ("where", f"image {slot}, {cell}"),
        ("passes", f"at {number(worst.floors)} floors; allowed are {number(worst.limit)}"),
    ]
    groups = _groups(context, over)
    shown = (f"{group} at stride {', '.join(map(str, strides))}" for group, strides in groups.items())
    rows.append(("out of bounds", "; ".join(shown)))
    rows.append(("within", ", ".join(_innocent(context, over)) or "nothing"))
    notes = tuple(filter(None, (anchor_note(context, truth, levels, over), grid_note(context, truth, levels, over))))
    return Finding(
        f"differs from the model at {case}.",
        tuple(rows),
        notes=notes,
        evidence={
            "case": case,
            "image": slot,
            "stride": context.facts.strides[worst.level],
            "group": worst.group,
            "out_of_bounds": groups,
            "statistic": worst.statistic,
            "error": worst.error,
            "floors": worst.floors,
            "limit": worst.limit,
            "reference": float(reference),
            "value": float(values[row, column]),
        },
    )


def precision_of(context: Context) -> str:
    """The precision whose noise the file is judged by."""
    return context.contract.precision if context.contract.precision in HALVES else FLOAT32


def worst_position(
    context: Context, truth: Truth, values: np.ndarray, worst: Excess, size: Size
) -> Tuple[int, int, str]:
    """Row and column of the largest error of a group on its level, and the same in a detector's words."""
    columns = GROUPS[worst.group]
    error = np.abs(values[:, columns] - truth.levels[worst.level][:, columns])
    error = np.where(np.isfinite(error), error, np.inf)
    row, offset = np.unravel_index(int(np.argmax(error)), error.shape)
    column = int(offset) + (columns.start or 0)
    ny, nx = context.facts.cells(size)[worst.level]
    anchor, rest = divmod(int(row), ny * nx)
    y, x = divmod(rest, nx)
    field = FIELDS[column] if column < 5 else f"class {column - 5} ({context.facts.names[column - 5]})"
    text = f"stride {context.facts.strides[worst.level]}, anchor {anchor}, cell row {y} column {x}, field {field}"
    return int(row), column, text


def _groups(context: Context, over: Sequence[Excess]) -> Dict[str, List[int]]:
    """Strides by group, of what is out of bounds."""
    found: Dict[str, List[int]] = OrderedDict()
    for excess in sorted(over, key=lambda item: (list(GROUPS).index(item.group), item.level)):
        strides = found.setdefault(excess.group, [])
        if context.facts.strides[excess.level] not in strides:
            strides.append(context.facts.strides[excess.level])
    return found


def _innocent(context: Context, over: Sequence[Excess]) -> List[str]:
    guilty = {excess.group for excess in over}
    strides = {excess.level for excess in over}
    fine = [group for group in GROUPS if group not in guilty]
    levels = [f"stride {stride}" for level, stride in enumerate(context.facts.strides) if level not in strides]
    return fine + levels


def declared(context: Context) -> Iterator[Finding]:
    """Noise and a mosaic of natural and drawn pictures at the declared size and batch."""
    contract = context.contract
    cases = cases_of(contract.batch, DECLARED, 0, contract.size)
    yield from explained(
        context, context.explore(space(context, cases), lambda case: compare(context, case)), judge_outputs
    )


def values(context: Context) -> Iterator[Finding]:
    """Every kind of picture: what hides under noise shows on black, dark or structured images."""
    contract = context.contract
    size = cheap_size(context)
    all_kinds, draws = kinds(context), 2 if contract.variant.dynamic_size else 0
    cases = cases_of(contract.batch, [kind for kind in all_kinds if kind not in DECLARED], 1, size)
    tried = space(context, cases, draws, only=size, kinds=all_kinds, batches=(contract.batch, contract.batch))
    yield from explained(context, context.explore(tried, lambda case: compare(context, case)), judge_outputs)


def photos(context: Context) -> Iterator[Finding]:
    """The user's own pictures, all of them; the first that is out of bounds."""
    yield from explained(context, first_photo(context, "parity.images", context.fixed_batch, compare), judge_outputs)


def sizes(context: Context) -> Iterator[Finding]:
    """The smallest size, wide, tall, the largest sensible one, and a few drawn."""
    contract, stride = context.contract, context.facts.max_stride
    tried = [(2 * stride, 3 * stride), (stride, stride), (5 * stride, 2 * stride), (stride, 6 * stride)]
    tried.append((largest_size(contract)[0], contract.size[1]))
    cases = [Case(size, pictures(1, seed=k)) for k, size in enumerate(tried)]
    yield from context.explore(space(context, cases, 4), lambda case: compare(context, case))


def batches(context: Context) -> Iterator[Finding]:
    """An odd batch, one, two and a larger one, a different picture in every slot."""
    size = cheap_size(context)
    cases = [Case(size, pictures(batch, seed=2)) for batch in (3, 1, 2, 5)]
    yield from context.explore(space(context, cases, 2, only=size, batches=(1, 5)), lambda case: compare(context, case))


def isolation(context: Context) -> Iterator[Finding]:
    """An image gives the same numbers whatever is beside it: its neighbours are replaced, alone and together."""
    contract, size = context.contract, cheap_size(context)
    count = 3 if contract.variant.dynamic_batch else contract.batch
    first = Case(size, pictures(count, seed=2, size=size))
    others = (("white", 0), ("checkerboard", 3), ("dark", 1), ("gradient", 0))
    other = Case(size, (first.pictures[0], *(others[k % 4] for k in range(count - 1))))
    before, after = (
        {name: array[:1].copy() for name, array in context.predict(case).items()} for case in (first, other)
    )
    truth = context.truth(first.pictures[0], size)
    left, right = (split_levels(truth.head, context.facts, size, outputs, 0) for outputs in (before, after))
    for level, (a, b) in enumerate(zip(left, right)):
        for group, columns in GROUPS.items():
            moved = float(np.abs(a[:, columns].astype(np.float64) - b[:, columns]).max())
            floor = truth.floor[level, group].max
            if not moved <= LIMITS["max"] * floor:
                yield Finding(
                    f"lets the other images of a batch change image 0 at {first}.",
                    (
                        (
                            "moved",
                            f"{number(moved)} {UNITS[truth.head][group]} in {group} at stride {context.facts.strides[level]}",
                        ),
                        ("floor", f"{number(floor)} {UNITS[truth.head][group]}"),
                    ),
                    evidence={"group": group, "moved": moved, "floors": moved / floor},
                )
                return


def repeat(context: Context) -> Iterator[Finding]:
    """The same input four times, twice where an image is large, gives the same bits, and its buffer is not written to."""
    size = cheap_size(context)
    case = Case(size, pictures(context.contract.batch, "mosaic", size=size))
    given = context.batch(case)
    first = context.outputs(case)
    few = context.quick or distinct(len(given), size) < len(given) or context.oracle.is_large(size)
    for call in range(2, 3 if few else 5):
        again = context.run(given)
        for name in first:
            if not _equal(first[name], again[name]):
                moved = float(np.nanmax(np.abs(first[name].astype(np.float64) - again[name])))
                yield Finding(
                    f"gives other bits on call {call} with the same input.",
                    (("output", name), ("largest difference", number(moved))),
                    evidence={"call": call, "output": name, "moved": moved},
                )
                return
    before = context.batch(case)
    if not np.array_equal(given, before):
        yield Finding(f"writes to its input buffer: {int((given != before).sum())} of {given.size} values changed.")


def _equal(one: np.ndarray, other: np.ndarray) -> bool:
    """Whether two arrays are equal, NaN to NaN; image by image, for the memory that takes."""
    pairs = zip(one, other) if one.ndim and one.shape == other.shape else [(one, other)]
    return all(np.array_equal(a, b, equal_nan=True) for a, b in pairs)


def optimisation(context: Context) -> Iterator[Finding]:
    """With graph optimisations disabled the numbers are right as well."""
    yield from _only_there(context, "with graph optimisations disabled", optimisation="disabled")


def threads(context: Context) -> Iterator[Finding]:
    """On one thread the numbers are right as well; on three where an image is large, which takes half the time. Where three are all
    there are, the file ran on them already."""
    if context.oracle.is_large(cheap_size(context)) and usable_cores() != 3:
        yield from _only_there(context, "on three threads", threads=3)
    else:
        yield from _only_there(context, "on one thread", threads=1)


def _only_there(context: Context, where: str, **engine: Any) -> Iterator[Finding]:
    plain = reported_case(context, cheap_size(context))
    tried = (compare(context, case, **engine) for case in [*failing_cases(context, "parity.declared"), plain])
    for finding in next(filter(None, tried), []):
        yield replace(finding, message=finding.message[:-1] + f", {where}.")
    context.forget(**engine)


def sequence(context: Context) -> Iterator[Finding]:
    """Other sizes and back, the same turned among them: nothing of one call is left in the next."""
    stride = context.facts.max_stride
    first = Case(cheap_size(context), pictures(1, seed=2))
    turned = Case((first.size[1], first.size[0]), pictures(1, seed=6))  # as many cells, in another shape
    second = Case((3 * stride, 2 * stride), pictures(1, seed=5))
    for case in (first, turned, second, first):
        found = compare(context, case)
        if found:
            yield from found
            return


def evaluator(context: Context) -> Iterator[Finding]:
    """A second implementation of every operator agrees."""
    contract = context.contract
    size = contract.size
    if contract.variant.dynamic_size:
        size = (context.facts.max_stride, 2 * context.facts.max_stride)
    if size[0] * size[1] * contract.batch > EVALUATOR_PIXELS:
        raise CannotRun(f"the reference evaluator is for small models: {size[0]}x{size[1]} is above its limit")
    case = Case(size, pictures(contract.batch, "natural", 4))
    try:
        outputs = context.predict(case, engine="onnx_reference")
    except EngineError as error:
        raise CannotRun(f"the reference evaluator cannot run it ({error})") from None
    except EngineDied as died:  # it is slow by design, whatever the file: no fault of it
        raise CannotRun(f"the reference evaluator {died}") from None
    for finding in judge_outputs(context, case, outputs):
        yield replace(finding, message=finding.message[:-1] + ", in the reference evaluator.", level=INFO)


def _always(contract: Contract) -> bool:
    return contract.variant.head in ("raw", "grid") and not contract.quantised


def _any_precision(contract: Contract) -> bool:
    return contract.variant.head in ("raw", "grid")


def _onnx(contract: Contract) -> bool:
    return _always(contract) and contract.variant.onnx


def _size_varies(contract: Contract) -> bool:
    return _always(contract) and contract.variant.dynamic_size


def _batch_varies(contract: Contract) -> bool:
    return _always(contract) and contract.variant.dynamic_batch


def _several(contract: Contract) -> bool:
    return _batch_varies(contract) or (_always(contract) and contract.batch > 1)


LOADED = ("structure.load", "script.load", "engine.load")
RUNS = (*LOADED, "parity.declared")
CHECKS: Tuple[Check, ...] = (
    Check("parity.declared", MUST, "Right numbers at the declared size and batch.", declared, _always, LOADED),
    Check("parity.values", MUST, "Right numbers on every kind of picture.", values, _always, LOADED),
    Check("parity.images", MUST, "Right numbers on the pictures of --images.", photos, _always, LOADED),
    Check("parity.sizes", MUST, "Right numbers at every promised size.", sizes, _size_varies, LOADED),
    Check(
        "parity.batches",
        MUST,
        "Right numbers in batches, a different picture in every slot.",
        batches,
        _batch_varies,
        LOADED,
    ),
    Check("parity.isolation", MUST, "An image's numbers do not depend on its neighbours.", isolation, _several, RUNS),
    Check("parity.repeat", MUST, "Same input, same bits; the input is not written to.", repeat, _any_precision, RUNS),
    Check("parity.optimisation", MUST, "Right numbers without graph optimisations.", optimisation, _onnx, LOADED),
    Check("parity.threads", MUST, "Right numbers on one thread (of a large image, on three).", threads, _always, RUNS),
    Check("parity.sequence", MUST, "Nothing of one call is left in the next.", sequence, _size_varies, RUNS),
    Check("parity.evaluator", INFO, "The ONNX reference evaluator agrees.", evaluator, _onnx, LOADED),
)
