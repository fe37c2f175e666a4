"""Causes of differing numbers, each named only where it was tried and leaves nothing out of bounds: how a file takes its image, and
in which layout it gives its predictions."""

from __future__ import annotations

import itertools
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Callable, Dict, Iterator, List, Optional, Sequence, Tuple

import numpy as np

from detparity.core.case import Case
from detparity.core.errors import EngineError
from detparity.core.findings import Finding
from detparity.core.vocabulary import Arrays, ModelFacts, Size
from detparity.oracle.noise_floor import (
    EPS32,
    Excess,
    Key,
    Stats,
    Truth,
    excesses,
    measure,
)

if TYPE_CHECKING:
    from detparity.checks.context import Context

Judge = Callable[["Context", Case, Arrays], Sequence[Finding]]

STEADY = 1e-3  # of a factor that is the same for all boxes
NEAR = 2e-3  # of a score, and of a box in parts of its image: what is further off needs no closer look
MOST_LEVELS = 4  # of which every order is tried; an ensemble has more
SAMPLE = 500  # rows looked at before all are
SLACK = 4.0  # roundings of a coordinate that another layout of boxes adds


@dataclass(frozen=True)
class Cause:
    """sentence: a clause about the file; note: what was tried; fix: what to do."""

    sentence: str
    note: str
    fix: str


# How an image in 0..1 is changed before it is given, what the file then is, and what to do.
IMAGES: Tuple[Tuple[str, str, Callable[[np.ndarray], np.ndarray]], ...] = (
    ("the channels of its image are reversed (BGR for RGB)", "with them reversed", lambda x: x[:, ::-1]),
    ("it divides its image by 255", "with pixels from 0 to 255", lambda x: x * np.float32(255)),
    (
        "it divides its image by 255 and reverses the channels (BGR for RGB)",
        "with pixels from 0 to 255 and channels reversed",
        lambda x: x[:, ::-1] * np.float32(255),
    ),
    ("it takes its image from -1 to 1", "with pixels from -1 to 1", lambda x: x * np.float32(2) - np.float32(1)),
)


def explained(context: Context, findings: Sequence[Finding], judge: Judge) -> Iterator[Finding]:
    """The findings, each with its cause where one that was tried explains all of it. judge: the findings about what a run gives."""
    for finding in findings:
        case = finding.evidence.get("case")
        numbers = "out_of_bounds" in finding.evidence or "kinds" in finding.evidence
        cause = _cause(context, case, judge) if isinstance(case, Case) and numbers else None
        if cause is None:
            yield finding
        else:
            message = f"{finding.message[:-1]}: {cause.sentence}."
            evidence = {**finding.evidence, "cause": cause.sentence}
            yield replace(
                finding, message=message, notes=(cause.note, *finding.notes), evidence=evidence, fix=cause.fix
            )


def _cause(context: Context, case: Case, judge: Judge) -> Optional[Cause]:
    """The cause that explains all that is out of bounds in a case; None where none of those known does."""
    try:
        found = None
        if context.contract.variant.head == "grid":
            found = layout_cause(context, case, context.predict(case))
        return found or image_cause(context, case, lambda outputs: not judge(context, case, outputs))
    except EngineError:
        return None


def _truths(context: Context, case: Case) -> Iterator[Tuple[int, Truth]]:
    for slot, picture in enumerate(case.pictures):
        if case.pictures.index(picture) == slot:
            yield slot, context.truth(picture, case.size)


def image_cause(context: Context, case: Case, right: Callable[[Arrays], bool]) -> Optional[Cause]:
    """How the file takes its image, where that explains everything. right: whether outputs are within bounds."""
    given = context.batch(case)
    if len(np.unique(given)) < 2:
        return None  # a plain image is the same in many forms
    for sentence, tried, change in IMAGES:
        if "reverse" not in sentence and context.form.rounding:
            continue
        if right(context.read(context.run(np.ascontiguousarray(change(given))), case.size)):
            note = f"Tried {tried}: all numbers are then the model's."
            return Cause(sentence, note, "Export without that preprocessing.")
    return None


# --- layouts of decoded predictions ---------------------------------------------------------------------------------


@dataclass(frozen=True)
class _Boxes:
    """One layout of the four numbers of a box. pixels: of boxes in it, centre and size in pixels."""

    name: str
    pixels: Callable[[np.ndarray, Size], np.ndarray]


def layout_cause(context: Context, case: Case, outputs: Arrays) -> Optional[Cause]:
    """The layout in which the file's numbers are the model's."""
    truths = list(_truths(context, case))
    values = next(iter(outputs.values()))
    first_slot, first = truths[0]
    expected, found = np.concatenate(first.levels), values[first_slot].astype(np.float64)
    if found.shape != expected.shape or not np.isfinite(found).all():
        return None
    some = np.unique(np.linspace(0, len(expected) - 1, SAMPLE).astype(int))
    for rows, order in _row_orders(context.facts, case.size):
        for scores, multiplied in (("", False), ("its class scores are already multiplied by objectness", True)):
            if np.abs(found[order[some], 4:] - _scores(expected[some], multiplied)[:, 4:]).max() > NEAR:
                continue
            for boxes in _box_layouts():
                name = ", ".join(filter(None, (rows, boxes.name, scores)))
                near = np.abs(boxes.pixels(found[order, :4], case.size) - expected[:, :4]).max()
                if (
                    name
                    and near <= NEAR * max(case.size)
                    and _fits(context, case, truths, values, order, boxes, multiplied)
                ):
                    tried = "Tried: read so, all numbers are the model's."
                    return Cause(name, tried, "Export in the promised layout, or read the file so.")
    return None


def _fits(
    context: Context,
    case: Case,
    truths: Sequence[Tuple[int, Truth]],
    values: np.ndarray,
    order: np.ndarray,
    boxes: _Boxes,
    multiplied: bool,
) -> bool:  # seven parameters: the case and the layout
    """Whether every image is within bounds when it is read in this layout; another layout of boxes rounds them once more."""
    edges = np.cumsum(context.facts.level_rows(case.size))[:-1]
    for slot, truth in truths:
        found = values[slot].astype(np.float64)[order]
        slack = (
            SLACK * EPS32 * float(np.abs(boxes.pixels(np.abs(found[:, :4]), case.size)).max()) if boxes.name else 0.0
        )
        found[:, :4] = boxes.pixels(found[:, :4], case.size)
        levels = [_scores(level, multiplied) for level in truth.levels]
        stats = measure(levels, np.split(found, edges))
        over = excesses(replace(truth, levels=tuple(levels), floor=_widened(truth, slack)), stats)
        if over:
            return False
    return True


def _widened(truth: Truth, slack: float) -> Dict[Key, Stats]:
    """The floor with `slack` pixels added to that of boxes."""
    return {
        key: replace(stats, **{name: getattr(stats, name) + slack for name in ("rms", "max", "bias", "gain")})
        if key[1] in ("xy", "wh")
        else stats
        for key, stats in truth.floor.items()
    }


def _scores(predictions: np.ndarray, multiplied: bool) -> np.ndarray:
    if not multiplied:
        return predictions
    found = predictions.copy()
    found[:, 5:] *= predictions[:, 4:5]
    return found


def _row_orders(facts: ModelFacts, size: Size) -> Iterator[Tuple[str, np.ndarray]]:
    """Orders of rows by name, the promised one first; each as the index, in the file, of every promised row."""
    counts, anchors = facts.level_rows(size), facts.anchors_per_level
    levels_in = range(len(counts))
    orders = (
        itertools.permutations(levels_in) if len(counts) <= MOST_LEVELS else (tuple(levels_in), tuple(levels_in)[::-1])
    )
    for cells_first, levels in itertools.product((False, True), orders):
        starts, start = {}, 0
        for level in levels:
            starts[level] = start
            start += counts[level]
        order: List[np.ndarray] = []
        for level, count in enumerate(counts):
            inside = np.arange(count)
            if cells_first:
                inside = inside.reshape(-1, anchors).T.ravel()
            order.append(starts[level] + inside)
        names = []
        if list(levels) != sorted(levels):
            names.append(f"its levels are in the order {', '.join(str(facts.strides[level]) for level in levels)}")
        if cells_first:
            names.append("its rows run cell by cell, anchors inside")
        yield ", ".join(names), np.concatenate(order)


def _box_layouts() -> Iterator[_Boxes]:
    """Layouts of boxes, the promised one first."""

    def layout(kind: str, parts: bool, swapped: bool) -> Callable[[np.ndarray, Size], np.ndarray]:
        def pixels(boxes: np.ndarray, size: Size) -> np.ndarray:
            found = boxes[:, [1, 0, 3, 2]] if swapped else boxes
            if parts:
                found = found * np.array([size[1], size[0], size[1], size[0]], np.float64)
            first, second = found[:, :2], found[:, 2:]
            if kind == "corners":
                return np.concatenate([(first + second) / 2, second - first], 1)
            return np.concatenate([first + second / 2, second], 1) if kind == "corner and size" else found

        return pixels

    for swapped, kind, parts in itertools.product((False, True), ("", "corners", "corner and size"), (False, True)):
        names = [f"its boxes are {kind} instead of centre and size" if kind else ""]
        names.append("its boxes are divided by width and height" if parts else "")
        names.append("its boxes have y before x" if swapped else "")
        yield _Boxes(", ".join(filter(None, names)), layout(kind, parts, swapped))


# --- what a level shows by itself -------------------------------------------------------------------------------------


def anchor_note(context: Context, truth: Truth, levels: Sequence[np.ndarray], over: Sequence[Excess]) -> str:
    """Which anchors the file uses, where widths and heights alone are out of bounds, each anchor's by a constant factor."""
    if truth.head != "grid" or {excess.group for excess in over} != {"wh"}:
        return ""
    wrong: List[str] = []
    factors: List[np.ndarray] = []
    guilty = {excess.level for excess in over}
    for level, (reference, values) in enumerate(zip(truth.levels, levels)):
        per = len(reference) // context.facts.anchors_per_level
        for anchor in range(context.facts.anchors_per_level):
            rows = slice(anchor * per, (anchor + 1) * per)
            with np.errstate(divide="ignore", invalid="ignore"):
                ratio = values[rows, 2:4] / reference[rows, 2:4]
            middle = np.median(ratio, axis=0)
            if not np.isfinite(ratio).all() or (np.abs(ratio - middle) >= STEADY * np.abs(middle)).any():
                if level in guilty:
                    return ""
                continue
            factors.append(middle)
            if (np.abs(middle - 1) > STEADY).any():
                own = context.facts.anchors[level][anchor]
                file = tuple(float(own[k] * middle[k]) for k in range(2))
                wrong.append(
                    f"stride {context.facts.strides[level]} anchor {anchor} is {own[0]:g}x{own[1]:g} in the model, "
                    f"{file[0]:.4g}x{file[1]:.4g} in the file"
                )
    if len(wrong) > 1 and len(wrong) == len(factors) and np.allclose(factors, factors[0], rtol=STEADY):
        return f"Every width is multiplied by {factors[0][0]:.4g} and every height by {factors[0][1]:.4g}."
    return "Anchors differ: " + "; ".join(wrong) + "." if wrong else ""


def grid_note(context: Context, truth: Truth, levels: Sequence[np.ndarray], over: Sequence[Excess]) -> str:
    """How the grid is wrong, where centres alone are out of bounds, on every such level by an integer number of cells."""
    if truth.head != "grid" or {excess.group for excess in over} != {"xy"}:
        return ""
    kinds: List[Tuple[int, str]] = []
    for level in sorted({excess.level for excess in over}):
        stride = context.facts.strides[level]
        cells = (levels[level][:, 0:2] - truth.levels[level][:, 0:2]) / stride
        if not np.isfinite(cells).all() or (np.abs(cells - np.round(cells)) > 0.05).any() or np.abs(cells).max() < 0.5:
            return ""
        ny, nx = context.facts.cells(truth.size)[level]
        y, x = np.indices((ny, nx))
        exchange = np.tile(np.stack([y - x, x - y], -1).reshape(-1, 2), (context.facts.anchors_per_level, 1))
        exchanged = np.abs(cells - exchange).max() < 0.5
        kinds.append((stride, "the grid is transposed" if exchanged else "the grid is not this image's"))
    if not kinds or len({kind for _, kind in kinds}) > 1:
        return ""
    strides = ", ".join(str(stride) for stride, _ in kinds)
    return f"Centres at stride {strides} are off by an integer number of cells: {kinds[0][1]}."
