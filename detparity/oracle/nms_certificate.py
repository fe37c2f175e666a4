"""The acceptance certificate: whether these detections can be a correct answer.

A set of detections is the greedy result exactly when no two retained boxes of one class overlap beyond the
threshold and every candidate left out is suppressed by a retained one of its class that scores no less, or does
not exceed the score threshold, or lies past the cap. So detections need not be compared with a list: each of
these facts is checked with the margin that noise allows.

What may move. The engine's candidates are the reference's, each corner coordinate moved by at most
`Tolerance.box` and each score by at most `Tolerance.score`; both must cover float32 itself. A retained
candidate's numbers are known: the engine reports them. A left-out one's are known up to that noise. While
boxes are compared, every coordinate may move by another `iou_slack` (the rounding of a legal class offset)
and a retained one by one float32 spacing, since an engine may compare another rounding of a box than it reports.
With one class per row, any class that noise could make the row's best is legal. A fact is a breach only if no
movement within these bounds makes it good; facts that only a margin makes good are counted as near ties.

What follows, and does not. Every correct answer from candidates moved within the bounds is accepted. An
accepted answer has each fact made good by some movement, though not necessarily all by the same one.

Kinds of breach: 'unmatched' (a detection that is no candidate), 'duplicate' (its candidate is already
reported), 'overlap' (two retained boxes suppress each other), 'missing' (a candidate left out, suppressed by
none), 'below-threshold', 'over-cap' (more than the cap; also a detection past the `prefilter` best
candidates), 'order', 'not-finite', and for columns that cannot be read: 'image-index', 'class-index',
'num-dets'.
"""

from __future__ import annotations

from typing import Dict, List, Sequence, Tuple

import numpy as np
import numpy.typing as npt

from detparity.core.errors import InputError
from detparity.oracle import nms_breaches as facts
from detparity.oracle.boxes import Floats
from detparity.oracle.nms import Ints, NmsRule, decoded
from detparity.oracle.nms_case import (
    Breach,
    Case,
    Certificate,
    Detections,
    NearTies,
    Pool,
    Tolerance,
    integral,
    pool_of,
)


def certify_rows(
    output: npt.ArrayLike,
    predictions: npt.ArrayLike,
    rule: NmsRule,
    tolerance: Tolerance,
    *,
    ordered: bool = True,
) -> Certificate:
    """Certify the rows of `end2end-ort`: output (n, 7) image, x1, y1, x2, y2, class, score.

    predictions (batch, rows, 5 + nc) are the float64 reference, decoded. `ordered` says whether images
    ascending and scores descending within an image are promised. Raises InputError for other shapes.
    """
    rows, reference = np.asarray(output, dtype=np.float64), decoded(predictions, ndim=3)
    if rows.ndim != 2 or rows.shape[1] != 7:
        raise InputError(f"detections must have shape (n, 7), not {rows.shape}")
    images = rows[:, 0]
    readable = integral(images, len(reference))
    breaches = [
        Breach(
            "image-index",
            f"Output row {position} belongs to image {images[position]:g}, not to 0 to {len(reference) - 1}.",
            {"place": int(position), "image": float(images[position]), "batch": len(reference)},
        )
        for position in np.nonzero(~readable)[0]
    ]
    if ordered:
        breaches += _images_not_ascending(images, np.nonzero(readable)[0])
    per_image = []
    for image in range(len(reference)):
        positions = np.nonzero(images == image)[0]
        per_image.append(Detections(rows[positions, 1:5], rows[positions, 6], rows[positions, 5], positions))
    return _certify(breaches, per_image, reference, rule, tolerance, ordered)


def certify_padded(
    num_dets: npt.ArrayLike,
    boxes: npt.ArrayLike,
    scores: npt.ArrayLike,
    classes: npt.ArrayLike,
    predictions: npt.ArrayLike,
    rule: NmsRule,
    tolerance: Tolerance,
    *,
    ordered: bool = True,
) -> Certificate:
    """Certify the outputs of `end2end-trt`: num_dets (batch, 1), boxes (batch, slots, 4) corners, scores and
    classes (batch, slots), of which only the first num_dets slots of an image mean anything.

    predictions (batch, rows, 5 + nc) are the float64 reference, decoded. `ordered` says whether scores
    descending are promised. Raises InputError for other shapes.
    """
    reference = decoded(predictions, ndim=3)
    counts, labels = np.asarray(num_dets, dtype=np.float64), np.asarray(classes, dtype=np.float64)
    box_values, score_values = np.asarray(boxes, dtype=np.float64), np.asarray(scores, dtype=np.float64)
    batch, slots = len(reference), score_values.shape[-1] if score_values.ndim == 2 else -1
    shapes = (counts.shape, box_values.shape, score_values.shape, labels.shape)
    if shapes != ((batch, 1), (batch, slots, 4), (batch, slots), (batch, slots)):
        raise InputError(
            f"num_dets, boxes, scores and classes must have shapes ({batch}, 1), ({batch}, slots, 4), "
            f"({batch}, slots) and ({batch}, slots), not " + ", ".join(str(shape) for shape in shapes)
        )
    readable = integral(counts[:, 0], slots + 1)
    breaches = [
        Breach(
            "num-dets",
            f"Image {image}: num_dets is {counts[image, 0]:g}, but there are 0 to {slots} slots to fill.",
            {"image": int(image), "num_dets": float(counts[image, 0]), "slots": slots},
        )
        for image in np.nonzero(~readable)[0]
    ]
    per_image = []
    for image, count in enumerate(counts[:, 0]):
        valid = int(np.clip(np.nan_to_num(count), 0, slots))
        per_image.append(
            Detections(
                box_values[image, :valid],
                score_values[image, :valid],
                labels[image, :valid],
                np.arange(valid),
            )
        )
    return _certify(breaches, per_image, reference, rule, tolerance, ordered)


def certify_image(
    detections: Detections,
    predictions: npt.ArrayLike,
    rule: NmsRule,
    tolerance: Tolerance,
    *,
    ordered: bool = True,
) -> Certificate:
    """Certify the detections of one image against its predictions (rows, 5 + nc), the float64 reference.

    `ordered` says whether scores descending are promised. Raises InputError for other shapes.
    """
    return _certify([], [detections], decoded(predictions, ndim=2)[None], rule, tolerance, ordered)


def _certify(
    breaches: List[Breach],
    per_image: Sequence[Detections],
    reference: Floats,
    rule: NmsRule,
    tolerance: Tolerance,
    ordered: bool,
) -> Certificate:
    """Judge each image; an image's own pool of candidates comes with those of all, to find a detection's
    owner."""
    try:
        moves = np.broadcast_to(np.asarray(tolerance.box, dtype=np.float64), reference.shape[:2])
    except ValueError as error:
        raise InputError(
            f"box tolerances of shape {np.shape(tolerance.box)} do not fit predictions {reference.shape}"
        ) from error
    pools = [pool_of(values, move, rule, tolerance.score) for values, move in zip(reference, moves)]
    near_ties: List[NearTies] = []
    for image, given in enumerate(per_image):
        case = Case(image, given, pools[image], rule, tolerance)
        found, counts = _judge(case, pools, reference.shape[2] - 5, ordered)
        breaches = breaches + found
        near_ties += [NearTies(kind, image, count) for kind, count in counts.items() if count]
    return Certificate(tuple(breaches), tuple(near_ties))


def _judge(case: Case, pools: Sequence[Pool], classes: int, ordered: bool) -> Tuple[List[Breach], Dict[str, int]]:
    """Breaches of one image and its near ties by kind."""
    breaches, readable = facts.unreadable(case, classes)
    low, above = facts.below_threshold(case, readable)
    judged = facts.best_detections(case, above)
    owners, rejected = facts.match(case, judged)
    unaccounted, explained = facts.unaccounted(case, owners, rejected, pools)
    overlapping, close_pairs = facts.overlaps(case, judged)
    taken = {int(case.pool.slots[entry]) for entry in owners.values()}
    missing, excused = facts.missing(case, judged, taken, explained)
    breaches += low + unaccounted + overlapping + missing + facts.over_cap(case, judged)
    swapped = 0
    if ordered:
        disorder, swapped = facts.disorder(case, np.nonzero(readable)[0])
        breaches += disorder
    second_best = sum(bool(case.pool.entries.scores[e] < case.pool.best[e]) for e in owners.values())
    return breaches, {"overlap": close_pairs, "class": second_best, "order": swapped, **excused}


def _images_not_ascending(images: Floats, positions: Ints) -> List[Breach]:
    falls = np.nonzero(np.diff(images[positions]) < 0)[0]
    if not len(falls):
        return []
    before, after = (int(position) for position in positions[falls[0] : falls[0] + 2])
    return [
        Breach(
            "order",
            f"Output row {after} of image {images[after]:g} follows row {before} of image "
            f"{images[before]:g}: images do not ascend.",
            {"place": after, "image": int(images[after]), "image_before": int(images[before])},
        )
    ]
