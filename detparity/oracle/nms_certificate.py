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

from collections import deque
from dataclasses import dataclass, replace
from typing import Deque, Dict, Iterator, List, Optional, Sequence, Set, Tuple, Union

import numpy as np
import numpy.typing as npt

from detparity.core.errors import InputError
from detparity.oracle.boxes import Floats, corners, iou, iou_bounds
from detparity.oracle.nms import Candidates, Ints, NmsRule, class_scores, decoded, greedy

Mask = npt.NDArray[np.bool_]

# A score at its threshold may be evaluated on either side of it in float32: four roundings of the threshold.
FLOAT32_SCORE = 2.0**-22
# Neighbouring float32 numbers lie no further apart than this part of their size.
FLOAT32_SPACING = 2.0**-23
# Pairs of boxes compared at once: bounds the memory of a comparison, not its result.
_PAIRS = 2**18
# Detections of one image judged one by one where more than the cap are given (which is a breach by itself).
_JUDGED = 1000


@dataclass(frozen=True, eq=False)
class Tolerance:
    """Absolute noise bounds: `box` in pixels per corner coordinate, a scalar or one per row, (rows,) or
    (batch, rows) (noise of d_xy in a centre and d_wh in a size moves a corner by d_xy + d_wh / 2); `score`
    of the score; `iou_slack` in pixels, moved additionally while boxes are compared. Raises InputError for
    a bound that is negative or not finite."""

    box: Union[float, Floats]
    score: float
    iou_slack: float = 0.0

    def __post_init__(self) -> None:
        for name, bound in (("box", self.box), ("score", self.score), ("iou_slack", self.iou_slack)):
            values = np.asarray(bound, dtype=np.float64)
            if not (np.isfinite(values).all() and (values >= 0).all()):
                raise InputError(f"the {name} tolerance must be finite and not negative")


@dataclass(frozen=True, eq=False)
class Detections:
    """Detections of one image in the order given: boxes (n, 4) corners in pixels, scores (n,), classes
    (n,) and positions (n,), the index in the output by which messages name each. Raises InputError for other
    shapes."""

    boxes: Floats
    scores: Floats
    classes: Floats
    positions: Ints

    def __post_init__(self) -> None:
        n = len(self.positions)
        shapes = (self.boxes.shape, self.scores.shape, self.classes.shape, self.positions.shape)
        if shapes != ((n, 4), (n,), (n,), (n,)):
            raise InputError(f"boxes, scores, classes and positions do not belong together: shapes {shapes}")


@dataclass(frozen=True)
class Breach:
    """One fact that no movement within the noise makes good: a stable kind, one sentence, the numbers."""

    kind: str
    sentence: str
    facts: Dict[str, object]


@dataclass(frozen=True)
class NearTies:
    """How many facts of one image only a margin made good. Kinds: 'overlap' (retained pairs), 'suppression',
    'cap', 'threshold' and 'prefilter' (candidates left out), 'class' (rows reported with another class
    than the best), 'order' (detections after one that scores less)."""

    kind: str
    image: int
    count: int


@dataclass(frozen=True)
class Certificate:
    """The verdict: breaches (none: accepted) and the near ties that margins decided."""

    breaches: Tuple[Breach, ...]
    near_ties: Tuple[NearTies, ...]

    @property
    def accepted(self) -> bool:
        return not self.breaches


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
    readable = _integral(images, len(reference))
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
    readable = _integral(counts[:, 0], slots + 1)
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
    pools = [_pool(values, move, rule, tolerance.score) for values, move in zip(reference, moves)]
    near_ties: List[NearTies] = []
    for image, given in enumerate(per_image):
        case = _Case(image, given, pools[image], rule, tolerance)
        found, counts = _judge(case, pools, reference.shape[2] - 5, ordered)
        breaches = breaches + found
        near_ties += [NearTies(kind, image, count) for kind, count in counts.items() if count]
    return Certificate(tuple(breaches), tuple(near_ties))


# What may be a candidate


@dataclass(frozen=True, eq=False)
class _Pool:
    """Every (row, class) of one image that noise may make a candidate.

    `best` (K,) is the score that noise lowers to find the least an entry can have as a candidate: a row
    reported with any class scores as its best class does, within noise. `move` (K,) is the box tolerance in
    pixels. `slots` (K,) is what can be reported once: the row or, with several classes a row, the entry
    itself.
    """

    entries: Candidates
    best: Floats
    move: Floats
    slots: Ints

    def take(self, chosen: npt.NDArray[np.generic]) -> _Pool:
        return _Pool(self.entries.take(chosen), self.best[chosen], self.move[chosen], self.slots[chosen])

    def ranking(self) -> Floats:
        """Best scores of all slots, ascending."""
        _, first = np.unique(self.slots, return_index=True)
        return np.sort(self.best[first])


@dataclass(frozen=True, eq=False)
class _Case:
    """One image under judgement."""

    image: int
    given: Detections
    pool: _Pool
    rule: NmsRule
    tolerance: Tolerance

    def name(self, index: int) -> str:
        given = self.given
        return f"detection {given.positions[index]} " + _describe(
            given.boxes[index], given.classes[index], given.scores[index]
        )

    def breach(self, kind: str, index: int, predicate: str, **facts: object) -> Breach:
        """A breach whose subject is a detection."""
        given = self.given
        own: Dict[str, object] = {
            "image": self.image,
            "place": int(given.positions[index]),
            "box": _numbers(given.boxes[index]),
            "class": float(given.classes[index]),
            "score": float(given.scores[index]),
        }
        return Breach(kind, f"Image {self.image}: {self.name(index)} {predicate}.", {**own, **facts})


def _pool(predictions: Floats, move: Floats, rule: NmsRule, score_tolerance: float) -> _Pool:
    scores = class_scores(predictions)
    floor = rule.score_threshold - score_tolerance - _score_rounding(rule)
    finite = np.asarray(np.isfinite(predictions).all(axis=1))
    rows, classes = np.nonzero((scores >= floor) & finite[:, None])
    entry_scores = scores[rows, classes]
    if not rule.best_class:
        entries = Candidates(rows, corners(predictions[rows, :4]), entry_scores, classes)
        return _Pool(entries, entry_scores, move[rows], np.arange(len(rows)))
    best = scores.max(axis=1)[rows]
    legal = entry_scores >= best - 2 * score_tolerance
    rows, classes, entry_scores, best = rows[legal], classes[legal], entry_scores[legal], best[legal]
    return _Pool(Candidates(rows, corners(predictions[rows, :4]), entry_scores, classes), best, move[rows], rows)


def _score_rounding(rule: NmsRule) -> float:
    return FLOAT32_SCORE * abs(rule.score_threshold)


def _reported_move(case: _Case) -> Floats:
    """Pixels (n,) by which a reported box may differ from the one that the engine compared."""
    largest = np.abs(case.given.boxes).max(axis=1, initial=0.0)
    return np.asarray(case.tolerance.iou_slack + FLOAT32_SPACING * largest)


# The facts


def _judge(case: _Case, pools: Sequence[_Pool], classes: int, ordered: bool) -> Tuple[List[Breach], Dict[str, int]]:
    """Breaches of one image and its near ties by kind."""
    breaches, readable = _unreadable(case, classes)
    low, above = _below_threshold(case, readable)
    judged = _best_detections(case, above)
    owners, rejected = _match(case, judged)
    unaccounted, explained = _unaccounted(case, owners, rejected, pools)
    overlapping, close_pairs = _overlaps(case, judged)
    taken = {int(case.pool.slots[entry]) for entry in owners.values()}
    missing, excused = _missing(case, judged, taken, explained)
    breaches += low + unaccounted + overlapping + missing + _over_cap(case, judged)
    swapped = 0
    if ordered:
        disorder, swapped = _disorder(case, np.nonzero(readable)[0])
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


def _unreadable(case: _Case, classes: int) -> Tuple[List[Breach], Mask]:
    """Detections with numbers that are not finite or classes that do not exist, and the mask of the
    others."""
    given = case.given
    finite = np.isfinite(given.boxes).all(axis=1) & np.isfinite(given.scores) & np.isfinite(given.classes)
    known = _integral(given.classes, classes)
    breaches = [
        case.breach("not-finite", i, "has a number that is not finite") for i in np.nonzero(~finite)[0].tolist()
    ]
    breaches += [
        case.breach("class-index", i, f"has a class that is none of 0 to {classes - 1}", classes=classes)
        for i in np.nonzero(finite & ~known)[0].tolist()
    ]
    return breaches, finite & known


def _below_threshold(case: _Case, readable: Mask) -> Tuple[List[Breach], Mask]:
    """Detections that do not pass the score threshold, and the mask of those that may."""
    threshold = case.rule.score_threshold
    relaxed = replace(case.rule, score_threshold=threshold - _score_rounding(case.rule))
    above = readable & relaxed.passes(case.given.scores)
    fault = f"does not {'reach' if case.rule.inclusive else 'exceed'} the score threshold {threshold:g}"
    return [
        case.breach("below-threshold", i, fault, score_threshold=threshold)
        for i in np.nonzero(readable & ~above)[0].tolist()
    ], above


def _best_detections(case: _Case, above: Mask) -> Ints:
    """Indices of the detections that are judged one by one, in the order given."""
    indices = np.nonzero(above)[0]
    best = np.argsort(-case.given.scores[indices], kind="stable")[: max(case.rule.cap, _JUDGED)]
    return np.sort(indices[best])


# Every detection is a candidate, each candidate once


def _match(case: _Case, judged: Ints) -> Tuple[Dict[int, int], Dict[int, Ints]]:
    """Largest one-to-one assignment of detections to slots.

    Returns the entry of each detection that has one, and of every other one the entries it agrees with, all
    taken.
    """
    slots = case.pool.slots
    agreeing = {int(i): _agreeing(case, case.pool, int(i)) for i in judged}
    options = {i: slots[entries].tolist() for i, entries in agreeing.items()}
    held: Dict[int, int] = {}
    holder: Dict[int, int] = {}
    for detection in options:
        _augment(detection, options, held, holder)
    owners = {i: int(agreeing[i][options[i].index(slot)]) for i, slot in held.items()}
    return owners, {i: entries for i, entries in agreeing.items() if i not in owners}


def _agreeing(case: _Case, pool: _Pool, index: int) -> Ints:
    """Entries of a pool that a detection agrees with in box, score and class, nearest score first."""
    given, entries = case.given, pool.entries
    off = np.abs(entries.scores - given.scores[index])
    near = np.nonzero((off <= case.tolerance.score) & (entries.classes == given.classes[index]))[0]
    away = np.abs(entries.boxes[near] - given.boxes[index]).max(axis=1, initial=0.0)
    near = near[away <= pool.move[near]]
    return np.asarray(near[np.argsort(off[near], kind="stable")])


def _augment(detection: int, options: Dict[int, List[int]], held: Dict[int, int], holder: Dict[int, int]) -> None:
    """Give the detection a slot along a shortest augmenting path, if there is one, and pass slots on along
    it.

    `held` is the slot of each detection, `holder` the detection of each slot.
    """
    requested_by: Dict[int, int] = {}
    waiting: Deque[int] = deque([detection])
    while waiting:
        current = waiting.popleft()
        for slot in options[current]:
            if slot in requested_by:
                continue
            requested_by[slot] = current
            if slot in holder:
                waiting.append(holder[slot])
                continue
            free: Optional[int] = slot
            while free is not None:
                taker = requested_by[free]
                passed_on = held.get(taker)
                held[taker], holder[free] = free, taker
                free = passed_on
            return


def _unaccounted(
    case: _Case, owners: Dict[int, int], rejected: Dict[int, Ints], pools: Sequence[_Pool]
) -> Tuple[List[Breach], Set[int]]:
    """Breaches of detections without a slot, and the slots of the candidates they were intended for.

    Such a candidate is not reported as missing besides.
    """
    holder = {int(case.pool.slots[entry]): detection for detection, entry in owners.items()}
    breaches: List[Breach] = []
    explained: Set[int] = set()
    for index, entries in rejected.items():
        if len(entries):
            row, first = int(case.pool.entries.rows[entries[0]]), holder[int(case.pool.slots[entries[0]])]
            breaches.append(
                case.breach(
                    "duplicate",
                    index,
                    f"repeats candidate row {row}, already reported by {case.name(first)}",
                    row=row,
                    first_place=int(case.given.positions[first]),
                )
            )
            continue
        breach, slot = _unmatched(case, index, pools)
        breaches.append(breach)
        if slot is not None:
            explained.add(slot)
    return breaches, explained


def _unmatched(case: _Case, index: int, pools: Sequence[_Pool]) -> Tuple[Breach, Optional[int]]:
    """The breach of a detection that agrees with no candidate, and the slot of the one it was intended for.

    Reported in this order: it is another image's candidate; it agrees with one of this image in all but the
    class, the score or the box; or in none of these, and then the nearest box is named (and was intended
    only if the box agrees).
    """
    fault = "is no candidate"
    for other, pool in enumerate(pools):
        owned = _agreeing(case, pool, index)
        if len(owned):  # never this image's own: the detection would not be unmatched
            row = int(pool.entries.rows[owned[0]])
            text = f"{fault}: it belongs to image {other}, row {row}"
            return case.breach("unmatched", index, text, differs="image", owner_image=other, row=row), None

    given, entries, allowed = case.given, case.pool.entries, case.tolerance.score
    if not len(entries):
        text = f"{fault}: no row exceeds the score threshold"
        return case.breach("unmatched", index, text, differs="all"), None
    away = np.abs(entries.boxes - given.boxes[index]).max(axis=1)
    off = np.abs(entries.scores - given.scores[index])
    same_box, same_score = away <= case.pool.move, off <= allowed
    same_class = entries.classes == given.classes[index]
    differs, nearest = next(
        (differs, int(np.argmin(np.where(agrees, distance, np.inf))))
        for differs, agrees, distance in (
            ("class", same_box & same_score, away),
            ("score", same_box & same_class, off),
            ("box", same_score & same_class, away),
            ("several", np.ones_like(same_box), away),
        )
        if agrees.any()
    )
    row, label, move = int(entries.rows[nearest]), int(entries.classes[nearest]), case.pool.move[nearest]
    differences = []
    if not same_box[nearest]:
        differences.append(f"has its box {away[nearest]:.6g} px away ({move:.3g} allowed)")
    if not same_score[nearest]:
        score = entries.scores[nearest]
        differences.append(f"scores {score:.6g}, {off[nearest]:.3g} off ({allowed:.3g} allowed)")
    if not same_class[nearest]:
        differences.append(f"is of class {label}")
    breach = case.breach(
        "unmatched",
        index,
        f"{fault}: the nearest, row {row}, " + " and ".join(differences),
        differs=differs,
        row=row,
        nearest_box=_numbers(entries.boxes[nearest]),
        nearest_class=label,
        nearest_score=float(entries.scores[nearest]),
        box_off=float(away[nearest]),
        box_allowed=float(move),
        score_off=float(off[nearest]),
        score_allowed=allowed,
    )
    intended = differs != "several" or same_box[nearest]
    return breach, int(case.pool.slots[nearest]) if intended else None


# No two retained detections suppress each other


def _overlaps(case: _Case, judged: Ints) -> Tuple[List[Breach], int]:
    """A breach for each detection that a better one should have suppressed, and the number of near ties."""
    given, rule = case.given, case.rule
    ranked = judged[np.argsort(-given.scores[judged], kind="stable")]
    move = _reported_move(case)
    breaches: List[Breach] = []
    near = 0
    for rank, index in enumerate(ranked):
        better = ranked[:rank]
        if not rule.class_agnostic:
            better = better[given.classes[better] == given.classes[index]]
        if not len(better):
            continue
        box = given.boxes[index]
        overlaps = iou(box, given.boxes[better])
        lowest, _ = iou_bounds(box, given.boxes[better], move[index], move[better])
        certain = rule.suppresses(lowest)
        near += int((rule.suppresses(overlaps) & ~certain).sum())
        if certain.any():
            worst = int(np.argmax(np.where(certain, lowest, -1.0)))
            breaches.append(
                case.breach(
                    "overlap",
                    int(index),
                    f"overlaps {case.name(better[worst])} with IoU {overlaps[worst]:.6g} (at least "
                    f"{lowest[worst]:.6g} within noise), over the threshold {rule.iou_threshold:g}",
                    suppressor_place=int(given.positions[better[worst]]),
                    suppressor_box=_numbers(given.boxes[better[worst]]),
                    suppressor_score=float(given.scores[better[worst]]),
                    iou=float(overlaps[worst]),
                    iou_lowest=float(lowest[worst]),
                    iou_threshold=rule.iou_threshold,
                )
            )
    return breaches, near


# No candidate is left out without a reason


def _missing(case: _Case, judged: Ints, taken: Set[int], explained: Set[int]) -> Tuple[List[Breach], Dict[str, int]]:
    """Breaches of candidates left out without a reason, and the number of near ties by the reason that saved
    them.

    Of these candidates only those that the greedy rule keeps are reported, so one dropped detection is one
    breach and not one for each box that it suppressed; those that an unmatched detection was intended for
    (`explained`) suppress likewise, but are not reported twice.
    """
    rule, given, noise = case.rule, case.given, case.tolerance.score
    left = case.pool.take(~np.isin(case.pool.slots, sorted(taken)))
    least = left.best - noise
    strict = replace(rule, score_threshold=rule.score_threshold + _score_rounding(rule))
    reasons = {"threshold": (~rule.passes(left.best), ~strict.passes(least))}
    if rule.prefilter is not None:
        ranking = case.pool.ranking()
        outranked = len(ranking) - np.searchsorted(ranking, left.best, side="right")
        at_most = len(ranking) - np.searchsorted(ranking, left.best - 2 * noise, side="left") - 1
        reasons["prefilter"] = (outranked >= rule.prefilter, at_most >= rule.prefilter)
    if len(given.positions) >= rule.cap:
        lowest_retained = given.scores[judged].min(initial=np.inf)
        reasons["cap"] = (left.best <= lowest_retained, least <= lowest_retained)

    settled = np.any([plain for plain, _ in reasons.values()], axis=0)
    left, least = left.take(~settled), least[~settled]
    saved = {kind: margin[~settled] for kind, (_, margin) in reasons.items()}
    plain, saved["suppression"] = _suppressed(case, judged, left, least)
    # With one class per row, one legal class that has a reason is enough; it is a near tie if not the best
    # one.
    nominal = left.entries.scores == left.best
    unsaved = ~np.isin(left.slots, left.slots[plain & nominal])
    counts: Dict[str, int] = {}
    for kind, margin in saved.items():
        slots = np.unique(left.slots[unsaved & margin])
        counts[kind] = len(slots)
        unsaved &= ~np.isin(left.slots, slots)
    rest = left.take(unsaved & nominal)
    _, first = np.unique(rest.slots, return_index=True)
    rest = rest.take(first)
    retained = greedy(rest.entries, replace(rule, prefilter=None, cap=max(rule.cap, 1)))
    news = retained[~np.isin(rest.slots[retained], sorted(explained))]
    return [_missing_breach(case, judged, rest, int(index)) for index in news], counts


def _suppressed(case: _Case, judged: Ints, left: _Pool, least: Floats) -> Tuple[Mask, Mask]:
    """Which entries a detection suppresses by the numbers as they are, and which within noise."""
    given, rule, move = case.given, case.rule, _reported_move(case)
    plain, possible = np.zeros(len(least), dtype=bool), np.zeros(len(least), dtype=bool)
    for entries, retained in _blocks(left.entries.classes, judged, given.classes, rule.class_agnostic):
        boxes, retained_boxes = left.entries.boxes[entries, None], given.boxes[None, retained]
        scores = given.scores[None, retained]
        _, highest = iou_bounds(
            boxes, retained_boxes, left.move[entries, None] + case.tolerance.iou_slack, move[None, retained]
        )
        able = rule.suppresses(highest) & (scores >= least[entries, None])
        possible[entries] |= able.any(axis=1)
        exact = rule.suppresses(iou(boxes, retained_boxes)) & (scores >= left.best[entries, None])
        plain[entries] |= (able & exact).any(axis=1)
    return plain, possible


def _blocks(classes: Ints, judged: Ints, retained_classes: Floats, class_agnostic: bool) -> Iterator[Tuple[Ints, Ints]]:
    """Entries and detections that may suppress each other, in blocks of bounded size."""
    groups: List[Tuple[Ints, Ints]]
    if class_agnostic:
        groups = [(np.arange(len(classes)), judged)]
    else:
        groups = [
            (np.nonzero(classes == label)[0], judged[retained_classes[judged] == label])
            for label in np.unique(retained_classes[judged])
        ]
    for entries, retained in groups:
        step = max(1, _PAIRS // max(1, len(retained)))
        for start in range(0, len(entries), step):
            yield entries[start : start + step], retained


def _missing_breach(case: _Case, judged: Ints, left: _Pool, index: int) -> Breach:
    given, rule, entries = case.given, case.rule, left.entries
    box, label = entries.boxes[index], int(entries.classes[index])
    row, score = int(entries.rows[index]), float(entries.scores[index])
    facts: Dict[str, object] = {
        "image": case.image,
        "row": row,
        "box": _numbers(box),
        "class": label,
        "score": score,
        "iou_threshold": rule.iou_threshold,
    }
    subject = f"Image {case.image}: candidate row {row} {_describe(box, label, score)} is left out, but "
    rivals = judged if rule.class_agnostic else judged[given.classes[judged] == label]
    if not len(rivals):
        none = "no box is retained" if rule.class_agnostic else "no box of its class is retained"
        return Breach("missing", f"{subject}{none} that could suppress it.", facts)
    overlaps = iou(box, given.boxes[rivals])
    _, highest = iou_bounds(
        box, given.boxes[rivals], left.move[index] + case.tolerance.iou_slack, _reported_move(case)[rivals]
    )
    nearest = int(np.argmax(overlaps))
    measured = f"IoU {overlaps[nearest]:.6g} (at most {highest[nearest]:.6g} within noise)"
    if rule.suppresses(highest[nearest]):
        reason = f"scores less, though its {measured} would do for the threshold {rule.iou_threshold:g}"
    else:
        reason = f"has {measured}, not enough for the threshold {rule.iou_threshold:g}"
    facts.update(
        nearest_place=int(given.positions[rivals[nearest]]),
        nearest_box=_numbers(given.boxes[rivals[nearest]]),
        nearest_score=float(given.scores[rivals[nearest]]),
        iou=float(overlaps[nearest]),
        iou_highest=float(highest[nearest]),
    )
    return Breach("missing", f"{subject}the nearest retained, {case.name(rivals[nearest])}, {reason}.", facts)


# Number and order


def _over_cap(case: _Case, judged: Ints) -> List[Breach]:
    """More detections than the cap, and detections that too many candidates outrank to have entered at
    all."""
    given, rule, count = case.given, case.rule, len(case.given.positions)
    breaches: List[Breach] = []
    if count > rule.cap:
        breaches.append(
            Breach(
                "over-cap",
                f"Image {case.image}: {count} detections are more than the cap of {rule.cap}.",
                {"image": case.image, "count": count, "cap": rule.cap},
            )
        )
    if rule.prefilter is not None:
        ranking = case.pool.ranking()
        certain = np.maximum(given.scores[judged], rule.score_threshold) + case.tolerance.score
        outranked = len(ranking) - np.searchsorted(ranking, certain, side="right")
        breaches += [
            case.breach(
                "over-cap",
                int(index),
                f"is outranked by {number} candidates, but only the {rule.prefilter} best enter",
                outranked_by=int(number),
                prefilter=rule.prefilter,
            )
            for index, number in zip(judged, outranked)
            if number >= rule.prefilter
        ]
    return breaches


def _disorder(case: _Case, readable: Ints) -> Tuple[List[Breach], int]:
    """A breach for the first detection that follows one that certainly scores less, and the number of near
    ties."""
    scores = case.given.scores[readable]
    if not len(scores):
        return [], 0
    rise = scores - np.minimum.accumulate(scores)
    wrong = np.nonzero(rise > 2 * case.tolerance.score)[0]
    near = int((rise > 0).sum()) - len(wrong)
    if not len(wrong):
        return [], near
    index = wrong[0]
    before = readable[int(np.argmin(scores[:index]))]
    text = f"follows {case.name(before)}: scores do not descend ({len(wrong)} such detections in this image)"
    position_before = int(case.given.positions[before])
    return [case.breach("order", int(readable[index]), text, place_before=position_before, count=len(wrong))], near


# Helpers


def _integral(values: Floats, limit: int) -> Mask:
    """Which values are integers from 0 to limit - 1."""
    return np.asarray((values >= 0) & (values < limit) & (values == np.floor(values)))


def _describe(box: Floats, label: float, score: float) -> str:
    sides = " ".join(f"{value:.6g}" for value in box)
    return f"(box [{sides}], class {label:g}, score {score:.6g})"


def _numbers(values: Floats) -> Tuple[float, ...]:
    return tuple(float(value) for value in values)
