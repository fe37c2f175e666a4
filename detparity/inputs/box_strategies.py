"""Hypothesis strategies for decoded predictions, the input of every suppression.

All coordinates are multiples of a quarter pixel and all scores multiples of 1 / 64 (or the score threshold
itself, rounded to float32), so that float32 and float64 engines start from the same numbers and ties are real
ties.
"""

from __future__ import annotations

from typing import List, Tuple

import numpy as np
import numpy.typing as npt
from hypothesis import strategies as st

Floats = npt.NDArray[np.float64]

# A box is (cx, cy, w, h) in quarters of a pixel until it is written out.
_UNIT = 4
_BOXES = ("new", "outside", "flat", "identical", "next class", "nested", "touching", "moved")
_CLASSES = ("new", "last", "same", "next")
_SCORES = ("new", "threshold", "none", "same")

_Quad = Tuple[int, int, int, int]
# What is drawn for one box: how many boxes back is the earlier one it may look at; how its box, class and
# score are made, each with numbers to use; the other classes' share of its class score; NaN: how many, and
# where.
_Plan = Tuple[int, Tuple[str, _Quad], Tuple[str, int], Tuple[str, int, int], float, Tuple[str, int]]


def predictions(
    *,
    images: Tuple[int, int] = (1, 3),
    boxes: Tuple[int, int] = (0, 6),
    classes: Tuple[int, int] = (1, 4),
    side: int = 64,
    score_threshold: float = 0.25,
    with_nan: bool = False,
) -> st.SearchStrategy[Floats]:
    """Predictions (batch, rows, 5 + nc) float64: cx, cy, w, h in pixels, objectness, class scores.

    images: fewest and most images. boxes: fewest and most boxes of one image; images differ in their number,
    and the shorter ones are filled with background rows of objectness 0. For more candidates than a cap, give
    a lower end above the cap. classes: fewest and most classes; with 1 the score is the objectness. side:
    image side in pixels, the scale of coordinates. score_threshold: the threshold that scores are also drawn
    to meet exactly. with_nan: also draw rows with one or all numbers NaN.

    A box is new (anywhere, also far outside the image and at negative coordinates, also without area) or made
    from an earlier one of its image: identical, identical in the neighbouring class, nested, touching along
    an edge, or moved by a part of its side. A class is new, an earlier one's, or that class's neighbour, up
    to the last. A score is new, an earlier one's, nothing, or exactly on the threshold. Other classes of a
    row score nothing, the same (a tie of classes), or less.

    Shrinks towards one image without boxes, then few boxes at the origin of a few pixels, class 0, the
    highest score, no relation to earlier boxes.
    """
    plan = st.tuples(
        st.integers(0, 3),
        st.tuples(st.sampled_from(_BOXES), st.tuples(*[st.integers(0, side * _UNIT)] * 4)),
        st.tuples(st.sampled_from(_CLASSES), st.integers(0, classes[1] - 1)),
        st.tuples(st.sampled_from(_SCORES), st.integers(0, 8), st.integers(0, 8)),
        st.sampled_from((0.0, 0.5, 1.0)),
        st.tuples(st.sampled_from(("none", "one", "all") if with_nan else ("none",)), st.integers(0, 99)),
    )
    image = st.lists(plan, min_size=boxes[0], max_size=boxes[1])
    batch = st.lists(image, min_size=images[0], max_size=images[1])
    threshold = float(np.float32(score_threshold))
    return st.builds(lambda plans, count: _batch(plans, count, side, threshold), batch, st.integers(*classes))


def _batch(plans: List[List[_Plan]], classes: int, side: int, score_threshold: float) -> Floats:
    values = np.zeros((len(plans), max(map(len, plans)), 5 + classes))
    values[..., 2:4] = 1.0
    for image, plan in enumerate(plans):
        if plan:
            values[image, : len(plan)] = _image(plan, classes, side * _UNIT, score_threshold)
    return values


def _image(plans: List[_Plan], classes: int, side: int, score_threshold: float) -> Floats:
    # A smallest box of class 0 and the highest score precedes the first.
    quads, labels, scores = [(0, 0, 1, 1)], [0], [(1.0, 1.0)]
    rows = []
    for back, box, label, score, others, nan in plans:
        earlier = -1 - back % len(quads)
        quads.append(_quad(*box, quads[earlier], side))
        relation, number = ("next", 0) if box[0] == "next class" else label
        labels.append(_label(relation, number, labels[earlier], classes))
        scores.append(_score(*score, scores[earlier], score_threshold))
        rows.append(_row(quads[-1], labels[-1], scores[-1], others, classes, nan))
    return np.array(rows)


def _quad(relation: str, drawn: _Quad, earlier: _Quad, side: int) -> _Quad:
    """A box from numbers in 0..side, new or made from an earlier one."""
    cx, cy, w, h = drawn
    if relation == "new":
        return cx, cy, w + 1, h + 1
    if relation == "outside":
        return 40 * cx - 20 * side, 40 * cy - 20 * side, w + 1, h + 1
    if relation == "flat":
        return cx, cy, 0, h
    of_x, of_y, of_w, of_h = earlier
    if relation == "nested":
        return of_x, of_y, of_w * w // side, of_h * h // side
    if relation == "touching":
        return of_x + of_w, of_y, of_w, of_h
    if relation == "moved":
        return of_x + of_w * cx // (2 * side), of_y, of_w, of_h
    return earlier


def _label(relation: str, drawn: int, earlier: int, classes: int) -> int:
    """A class, new, the last, an earlier box's or its neighbour."""
    if relation == "new":
        return drawn % classes
    if relation == "last" or classes == 1:
        return classes - 1
    if relation == "next":
        return earlier + 1 if earlier + 1 < classes else earlier - 1
    return earlier


def _score(
    relation: str, less: int, lesser: int, earlier: Tuple[float, float], score_threshold: float
) -> Tuple[float, float]:
    """Objectness and best class score, new, an earlier box's, nothing, or their product on the threshold."""
    if relation == "threshold":
        return 1.0, score_threshold
    if relation == "none":
        return 0.0, 0.0
    return (1 - less / 8, 1 - lesser / 8) if relation == "new" else earlier


def _row(
    quad: _Quad, label: int, scores: Tuple[float, float], others: float, classes: int, nan: Tuple[str, int]
) -> Floats:
    """One row; a single class has its score in the objectness, where it is read."""
    objectness, best = scores
    row = np.full(5 + classes, others * best)
    row[:4] = np.array(quad) / _UNIT
    row[4] = objectness * best if classes == 1 else objectness
    row[5 + label] = best
    broken, where = nan
    if broken == "one":
        row[where % len(row)] = np.nan
    elif broken == "all":
        row[:] = np.nan
    return row
