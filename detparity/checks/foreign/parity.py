"""Numbers of a file of any detector, against its reference in float64, in floors of what float32 itself does."""

from __future__ import annotations

from dataclasses import replace
from typing import Any, Iterator, List, Mapping, Optional, Sequence, Tuple

import numpy as np

from detparity.checks.foreign.context import ForeignContext, OutputsDiffer
from detparity.checks.foreign.contract import ForeignContract
from detparity.checks.foreign.decided import certified, explained, not_compared, other_count, too_few, undecided
from detparity.checks.foreign.far_off import far_off, plainly_wrong
from detparity.checks.foreign.other_weights import other_weights
from detparity.checks.foreign.rows import by_ties, uneven
from detparity.checks.foreign.truth import CaseTruth, ImageTruth, Refuses, paired
from detparity.checks.inputs import first_photo
from detparity.core.case import Case
from detparity.core.contract import MUST
from detparity.core.decisions import Choice
from detparity.core.errors import EngineError
from detparity.core.findings import CannotRun, Check, Finding, Row, refused
from detparity.core.layout import CLASS, MOST_COLUMNS, SCORE
from detparity.core.text import number
from detparity.core.vocabulary import Arrays, Picture, Size
from detparity.oracle.output_floor import Excess, excesses, measure, out_of_order, tables_of

DECLARED = ("noise", "natural", "scene")
OTHERS = ("mosaic", "dark", "white", "black")  # between them all other kinds
FOR_A_MARGIN = ("gradient", *OTHERS)
PER_TIE = 2  # rows that a near tie exchanges by itself: one of the model's for one of the file's
UNLIKE = 0.5  # correlation under which two outputs have nothing in common


def declared(context: ForeignContext) -> Iterator[Finding]:
    """Three pictures; others beside them while nothing that is chosen inside has a margin."""
    cases = [_case(context, kind) for kind in DECLARED]
    found = _first(context, cases)
    for kind in FOR_A_MARGIN:
        if found or not undecided(context, cases):
            break
        cases.append(_case(context, kind))
        found = _first(context, cases[-1:])
    other = other_count(context, cases[0]) if not found else None
    yield from found if other is None else [other]
    if not found and other is None and undecided(context, cases):
        raise CannotRun(undecided(context, cases))


def values(context: ForeignContext) -> Iterator[Finding]:
    yield from _first(context, [_case(context, kind) for kind in OTHERS[: 1 if context.quick else None]])


def photos(context: ForeignContext) -> Iterator[Finding]:
    """The user's own pictures, all of them; the first that is out of bounds."""
    yield from first_photo(context, "parity.images", context.contract.batch, compare)


def sizes(context: ForeignContext) -> Iterator[Finding]:
    """Sizes beside the declared one; one that the model refuses proves nothing about the file."""
    refused: List[str] = []
    for size in context.sizes():
        try:
            found = compare(context, _sized(context, size))
        except Refuses as error:
            refused.append(f"{size[0]}x{size[1]}: {error}")
            continue
        yield from found
        if found:
            return
    if len(refused) == len(context.sizes()):
        raise CannotRun(f"the model runs at none of the sizes tried ({refused[0][:200]})", hides=False)


def batches(context: ForeignContext) -> Iterator[Finding]:
    """A batch of another size, a different picture in every slot."""
    case = _batch(context)
    try:
        yield from compare(context, case)
    except Refuses as error:
        raise CannotRun(
            f"the model does not run in batches of {len(case.pictures)}: {str(error)[:200]}", hides=False
        ) from None


def cases(context: ForeignContext) -> List[Case]:
    """Every case that these checks may ask the model about."""
    found = [
        context.declared,
        *(_case(context, kind) for kind in (*DECLARED, *FOR_A_MARGIN)),
    ]
    if context.contract.varies_size:
        found += [_sized(context, size) for size in context.sizes()]
    return [*found, _batch(context)] if context.contract.varies_batch else found


def repeat(context: ForeignContext) -> Iterator[Finding]:
    """Same input, same bits."""
    case = context.declared
    first, second = context.predict(case), context.predict(case)
    wrong = [
        name for name in first if not np.array_equal(first[name], second[name], equal_nan=first[name].dtype.kind == "f")
    ]
    if wrong:
        yield Finding(
            f"gives other numbers when it is run again on the same input: output {wrong[0]!r}.",
            notes=("Something in it is random, or one call leaves something behind for the next.",),
            evidence={"case": case, "outputs": wrong},
        )


def optimisation(context: ForeignContext) -> Iterator[Finding]:
    yield from _first(context, [context.declared], optimisation="disabled")


def threads(context: ForeignContext) -> Iterator[Finding]:
    yield from _first(context, [context.declared], threads=1)


def _sized(context: ForeignContext, size: Size) -> Case:
    return Case(size, tuple(("noise", slot) for slot in range(context.contract.batch)))


def _batch(context: ForeignContext) -> Case:
    return Case(
        context.contract.size, (("noise", 0), ("natural", 1), ("scene", 2))[: 2 if context.contract.batch == 3 else 3]
    )


def _case(context: ForeignContext, kind: str) -> Case:
    others: Tuple[Picture, ...] = tuple(("natural", slot) for slot in range(1, context.contract.batch))
    return Case(context.contract.size, ((kind, 0), *others))


def _first(context: ForeignContext, cases: Sequence[Case], **engine: Any) -> List[Finding]:
    """The findings of the first case that has any."""
    for case in cases:
        try:
            found = compare(context, case, **engine)
        except Refuses as error:
            raise CannotRun(f"the model does not run at {case}: {str(error)[:300]}") from None
        if found:
            return found
    return []


def compare(context: ForeignContext, case: Case, **engine: Any) -> List[Finding]:
    """Run one case and judge every image of it. Raises Refuses where the model does not take it."""
    error: Optional[EngineError] = None
    choices: Tuple[Choice, ...] = ()
    try:
        context.named(context.exact_outputs)
        outputs = context.predict(case, **engine)
        choices = context.choices(case, **engine)
    except EngineError as raised:
        error = raised
    except OutputsDiffer as other:
        _require_its_form(context, case)
        return [
            Finding(f"{other}.", notes=("Nothing can be compared: it is another model's file, or another form of it.",))
        ]
    truth = context.truth(case, choices)
    if error is not None:
        wrong = refused(error, case)
        return [replace(wrong, notes=(*wrong.notes, *too_few(context, str(error)[:600])))]
    try:
        found = judged_of(context, case, truth, outputs)
        if found is not None and context.layout.selected and "shapes" not in found.evidence:
            found = settled(context, case, outputs, found, **engine)
    except CannotRun as unknown:
        found = other_weights(context, case, str(unknown))
        if found is None:
            raise
    return [found] if found is not None else []


def settled(context: ForeignContext, case: Case, outputs: Arrays, found: Finding, **engine: Any) -> Optional[Finding]:
    """What is left of a finding about a selection of rows under the file's choices at every decision, each certified, or with near
    ties of the model's own exchanged. Raises CannotRun where there are more of them than are tried."""
    choices = context.choices(case, every=True, **engine)
    if choices:
        truth = context.truth(case, choices)
        under = judged_of(context, case, truth, outputs)
        if under is None or not (truth.unmatched() or context.uncovered):
            return under
        found = under if under.evidence.get("node") else found
    ties = by_ties(context, case, outputs)
    if ties is None:
        if any(sum(one.apart) for one in context.truth(case, context.choices(case, **engine)).images):
            raise CannotRun(
                f"float32 itself exchanges rows at {case}, and the decisions that they follow from are not known"
            )
        return found
    if not ties.left:
        return judged_of(context, case, context.truth(case, ties.choices), outputs)
    if ties.near and not (ties.left > PER_TIE * ties.near and far_off(context, case, outputs)):
        raise CannotRun(
            f"{ties.left} rows have no partner at {case}; {ties.near} near ties of the model's decisions are as likely as a defect, "
            "and which of them the file decided otherwise cannot be shown"
        )
    return found


def judged_of(context: ForeignContext, case: Case, truth: CaseTruth, outputs: Arrays) -> Optional[Finding]:
    """The finding about the outputs of a file for a case, or about what it chose inside."""
    wrong = _shapes(context, case, truth, outputs) or uneven(context, case, truth, outputs)
    if wrong is not None:
        return explained(wrong, truth)
    for image in range(len(case.pictures)):
        found = _judge(context, case, truth, outputs, image)
        if found is not None:
            return found
    return None


def _require_its_form(context: ForeignContext, case: Case) -> None:
    """Raise CannotRun where the file suppresses and its model does not: that it has other outputs is no defect then."""
    if context.suppression and context.oracle.suppresses(context.given(case)) is False:
        raise CannotRun(
            f"give the model with its suppression (--model-args, or detparity capture): the file suppresses boxes, by "
            f"{context.suppression}, and the model as it is given does not"
        )


def _shapes(context: ForeignContext, case: Case, truth: CaseTruth, outputs: Arrays) -> Optional[Finding]:
    """Shapes other than the model's; of a selection the number of rows is judged with the rows."""
    rows: List[Row] = [("output", "model", "file")]
    differ = False
    for name, array in truth.outputs.items():
        own = outputs[name].shape if name in outputs else None
        free = context.layout.selected and own is not None and len(own) == array.ndim
        same = own == array.shape or (free and own is not None and own[2:] == array.shape[2:])
        differ = differ or not same
        rows.append((name, str(array.shape), str(own), "" if same else "<- differs"))
    if not differ:
        return None
    _require_its_form(context, case)
    note = _transposed(truth.outputs, outputs)
    return Finding(
        f"gives other shapes than the model at {case}.",
        tuple(rows),
        headed=True,
        notes=(note,) if note else (),
        evidence={"case": case, "shapes": {name: list(array.shape) for name, array in outputs.items()}},
    )


def _transposed(model: Arrays, file: Arrays) -> str:
    for name, array in model.items():
        own = file.get(name)
        if (
            own is not None
            and own.ndim == array.ndim == 3
            and own.shape == (array.shape[0], array.shape[2], array.shape[1])
        ):
            return f"{name!r} is the model's with its last two axes exchanged."
    return ""


def _judge(context: ForeignContext, case: Case, truth: CaseTruth, outputs: Arrays, image: int) -> Optional[Finding]:
    """The finding about one image under the file's own choices: floors grow while something is out of bounds and float32 ways are
    left."""
    one = truth.images[image]
    found = tables_of(context.layout, {name: outputs[name] for name in truth.outputs}, image)
    while True:
        floor = one.floor()
        mine, yours, apart = paired(one.tables, found, context.layout, floor)
        over = excesses(mine, yours, measure(mine, yours, one.groups), floor)
        lost = apart > 0
        illegal = certified(truth, case)
        if not over and not lost and illegal is None:
            return _order(context, case, one, found)
        if not context.grow(case, truth):
            break
    if illegal is not None:
        return illegal
    why = not_compared(context, truth)
    if why and (truth.unfollowed() or not plainly_wrong(one.groups, mine, yours)):
        what = f"{over[0].group.name} is {over[0].floors:.3g} floors off" if over else f"{apart} rows have no partner"
        raise CannotRun(f"the network decides inside, and {why}; {what} at {case}")
    if lost and not over:
        return explained(_rows_differ(context, case, one, found, apart), truth)
    return explained(_difference(context, case, image, one, over, (mine, yours)), truth)


def _order(context: ForeignContext, case: Case, one: ImageTruth, found: Mapping[str, np.ndarray]) -> Optional[Finding]:
    """Rows of a selection in order of score, where the model's are; near ties may change places."""
    row = out_of_order(context.layout, one.tables, found, one.floor())
    if row is None:
        return None
    first, second = (number(float(value)) for value in row.scores)
    return Finding(
        f"has its rows in another order than the model at {case}: row {row.index} with score {first} comes before {second}.",
        notes=("The model's rows are in order of score; who takes the first ones of the file takes others.",),
        evidence={"case": case, "row": row.index},
    )


def _rows_differ(
    context: ForeignContext, case: Case, one: ImageTruth, found: Mapping[str, np.ndarray], apart: int
) -> Finding:
    counts = [len(next(iter(tables.values()), ())) for tables in (one.tables, found)]
    return Finding(
        f"selects other rows than the model at {case}: {apart} rows have no partner.",
        (
            ("rows of the model", str(counts[0])),
            ("rows of the file", str(counts[1])),
        ),
        notes=(
            "Rows are matched one to one within noise; no near tie of a decision explains those that are left over.",
        ),
        evidence={"case": case, "rows": counts, "apart": apart},
    )


def _difference(
    context: ForeignContext,
    case: Case,
    image: int,
    one: ImageTruth,
    over: Sequence[Excess],
    tables: Tuple[Mapping[str, np.ndarray], Mapping[str, np.ndarray]],
) -> Finding:
    worst = over[0]
    field = worst.group.field
    unit = "" if field.unit == "number" else f" {field.unit}"
    rows: List[Row] = [("group", "statistic", "error", "floor", "floors", "limit")]
    for excess in over[:8]:
        floors = f"{excess.floors:.3g}"
        rows.append(
            (
                excess.group.name,
                excess.statistic,
                number(excess.error),
                number(excess.floor),
                floors,
                f"{excess.limit:.3g}",
            )
        )
    width = tables[0][worst.group.output].shape[1]
    column = range(width)[field.start : field.stop][worst.column]
    notes = [
        f"Largest in {worst.group.output!r}, row {worst.row}, column {column}{_class(context, worst)}: "
        f"the file gives {number(worst.value)}, the model {number(worst.truth)}."
    ]
    moved = _moved(*(side[worst.group.output] for side in tables))
    notes += [moved] if moved else _unlike(tables, over)
    return Finding(
        f"differs from the model at {case}{f', image {image}' if len(case.pictures) > 1 else ''}: {worst.group.name} is off by "
        f"{number(worst.error)}{unit} ({worst.statistic}), {worst.floors:.3g} floors where {worst.limit:.3g} are the limit.",
        tuple(rows),
        headed=True,
        notes=tuple(notes),
        evidence={
            "case": case,
            "image": image,
            "out_of_bounds": sorted({excess.group.name for excess in over}),
            "error": worst.error,
            "floors": worst.floors,
        },
    )


def _class(context: ForeignContext, excess: Excess) -> str:
    names = context.oracle.reference.facts.names
    if excess.group.field.role == SCORE and excess.group.field.name == "class" and excess.column < len(names):
        return f" (class {excess.column}, {names[excess.column]})"
    return " (class number)" if excess.group.field.role == CLASS else ""


def _unlike(tables: Tuple[Mapping[str, np.ndarray], Mapping[str, np.ndarray]], over: Sequence[Excess]) -> List[str]:
    """Says so where what differs has nothing in common with the model's: another model, other weights, another input. Boxes lie where
    their cells do, whatever the weights, so that scores decide where there are any."""
    scores = {excess.group for excess in over if excess.group.field.role == SCORE}
    low = []
    for group in scores or {excess.group for excess in over}:
        one, other = (group.of(side).ravel() for side in tables)
        if one.size < 16 or not np.isfinite(other).all() or one.std() == 0:
            continue
        low.append(other.std() == 0 or float(np.corrcoef(one, other)[0, 1]) < UNLIKE)
    if low and all(low):
        return [
            "What differs has nothing in common with the model's numbers: other weights, another model, or another input."
        ]
    return []


def _moved(one: np.ndarray, other: np.ndarray) -> str:
    """Says which columns of the model's table the file's are, where some are exchanged and all others right."""
    if one.shape != other.shape or len(one) < 2 or one.shape[1] > MOST_COLUMNS or not np.isfinite(other).all():
        return ""
    near = 1e-3 * (np.ptp(one, axis=0) + 1e-30)
    found: List[int] = []
    for column in range(one.shape[1]):
        error = np.abs(one - other[:, column : column + 1]).max(axis=0)
        fits = np.flatnonzero(error <= near)
        if not len(fits):
            return ""
        found.append(column if column in fits else int(fits[0]))
    moved = [column for column, origin in enumerate(found) if column != origin]
    if not moved or len(set(found)) < len(found):
        return ""
    own, origins = (", ".join(map(str, columns[:8])) for columns in (moved, [found[k] for k in moved]))
    return f"Columns are in another order: the file's {own} are the model's {origins}."


def _any_precision(contract: ForeignContract) -> bool:
    return True


def _always(contract: ForeignContract) -> bool:
    return not contract.quantised


def _onnx(contract: ForeignContract) -> bool:
    return contract.onnx and not contract.quantised


LOADED = ("structure.load", "script.load", "engine.load")
CHECKS: Tuple[Check, ...] = (
    Check("parity.declared", MUST, "Right numbers at the declared size and batch.", declared, _always, LOADED),
    Check("parity.values", MUST, "Right numbers on every kind of picture.", values, _always, LOADED),
    Check("parity.images", MUST, "Right numbers on the pictures of --images.", photos, _always, LOADED),
    Check(
        "parity.sizes",
        MUST,
        "Right numbers at every promised size.",
        sizes,
        lambda one: one.varies_size and not one.quantised,
        LOADED,
    ),
    Check(
        "parity.batches",
        MUST,
        "Right numbers in batches, a different picture in every slot.",
        batches,
        lambda one: one.varies_batch and not one.quantised,
        LOADED,
    ),
    Check("parity.repeat", MUST, "Same input, same bits.", repeat, _any_precision, LOADED),
    Check("parity.optimisation", MUST, "Right numbers without graph optimisations.", optimisation, _onnx, LOADED),
    Check("parity.threads", MUST, "Right numbers on one thread.", threads, _always, LOADED),
)
