"""Every breach that detections of one image can commit, each found by one function."""

from __future__ import annotations

from collections import deque
from dataclasses import replace
from typing import Deque, Dict, Iterator, List, Optional, Sequence, Set, Tuple

import numpy as np

from detparity.oracle.boxes import Floats, iou, iou_bounds
from detparity.oracle.nms import Ints, greedy
from detparity.oracle.nms_case import (
    JUDGED,
    PAIRS,
    Breach,
    Case,
    Mask,
    Pool,
    describe,
    integral,
    numbers,
    reported_move,
    score_rounding,
)

BLOCK = 256  # detections whose overlaps with all better ones are computed at once


def unreadable(case: Case, classes: int) -> Tuple[List[Breach], Mask]:
    """Detections with numbers that are not finite or classes that do not exist, and the mask of the
    others."""
    given = case.given
    finite = np.isfinite(given.boxes).all(axis=1) & np.isfinite(given.scores) & np.isfinite(given.classes)
    known = integral(given.classes, classes)
    breaches = [
        case.breach("not-finite", i, "has a number that is not finite") for i in np.nonzero(~finite)[0].tolist()
    ]
    breaches += [
        case.breach("class-index", i, f"has a class that is none of 0 to {classes - 1}", classes=classes)
        for i in np.nonzero(finite & ~known)[0].tolist()
    ]
    return breaches, finite & known


def below_threshold(case: Case, readable: Mask) -> Tuple[List[Breach], Mask]:
    """Detections that do not pass the score threshold, and the mask of those that may."""
    threshold = case.rule.score_threshold
    relaxed = replace(case.rule, score_threshold=threshold - score_rounding(case.rule))
    above = readable & relaxed.passes(case.given.scores)
    fault = f"does not {'reach' if case.rule.inclusive else 'exceed'} the score threshold {threshold:g}"
    return [
        case.breach("below-threshold", i, fault, score_threshold=threshold)
        for i in np.nonzero(readable & ~above)[0].tolist()
    ], above


def best_detections(case: Case, above: Mask) -> Ints:
    """Indices of the detections that are judged one by one, in the order given."""
    indices = np.nonzero(above)[0]
    best = np.argsort(-case.given.scores[indices], kind="stable")[: max(case.rule.cap, JUDGED)]
    return np.sort(indices[best])


def match(case: Case, judged: Ints) -> Tuple[Dict[int, int], Dict[int, Ints]]:
    """Largest one-to-one assignment of detections to slots.

    Returns the entry of each detection that has one, and of every other one the entries it agrees with, all
    taken.
    """
    slots = case.pool.slots
    agreed = {int(i): agreeing(case, case.pool, int(i)) for i in judged}
    options = {i: slots[entries].tolist() for i, entries in agreed.items()}
    held: Dict[int, int] = {}
    holder: Dict[int, int] = {}
    for detection in options:
        augment(detection, options, held, holder)
    owners = {i: int(agreed[i][options[i].index(slot)]) for i, slot in held.items()}
    return owners, {i: entries for i, entries in agreed.items() if i not in owners}


def agreeing(case: Case, pool: Pool, index: int) -> Ints:
    """Entries of a pool that a detection agrees with in box, score and class, nearest score first."""
    given, entries = case.given, pool.entries
    off = np.abs(entries.scores - given.scores[index])
    near = np.nonzero((off <= case.tolerance.score) & (entries.classes == given.classes[index]))[0]
    away = np.abs(entries.boxes[near] - given.boxes[index]).max(axis=1, initial=0.0)
    near = near[away <= pool.move[near]]
    return np.asarray(near[np.argsort(off[near], kind="stable")])


def augment(detection: int, options: Dict[int, List[int]], held: Dict[int, int], holder: Dict[int, int]) -> None:
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


def unaccounted(
    case: Case, owners: Dict[int, int], rejected: Dict[int, Ints], pools: Sequence[Pool]
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
        breach, slot = unmatched(case, index, pools)
        breaches.append(breach)
        if slot is not None:
            explained.add(slot)
    return breaches, explained


def unmatched(case: Case, index: int, pools: Sequence[Pool]) -> Tuple[Breach, Optional[int]]:
    """The breach of a detection that agrees with no candidate, and the slot of the one it was intended for.

    Reported in this order: it is another image's candidate; it agrees with one of this image in all but the
    class, the score or the box; or in none of these, and then the nearest box is named (and was intended
    only if the box agrees).
    """
    fault = "is no candidate"
    for other, pool in enumerate(pools):
        owned = agreeing(case, pool, index)
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
        nearest_box=numbers(entries.boxes[nearest]),
        nearest_class=label,
        nearest_score=float(entries.scores[nearest]),
        box_off=float(away[nearest]),
        box_allowed=float(move),
        score_off=float(off[nearest]),
        score_allowed=allowed,
    )
    intended = differs != "several" or same_box[nearest]
    return breach, int(case.pool.slots[nearest]) if intended else None


def overlaps(case: Case, judged: Ints) -> Tuple[List[Breach], int]:
    """A breach for each detection that a better one should have suppressed, and the number of near ties."""
    given, rule = case.given, case.rule
    ranked = judged[np.argsort(-given.scores[judged], kind="stable")]
    move = reported_move(case)
    breaches: List[Breach] = []
    near = 0
    for start in range(0, len(ranked), BLOCK):
        some, better = ranked[start : start + BLOCK, None], ranked[None, : start + BLOCK]
        pairs = np.arange(better.shape[1])[None] < start + np.arange(len(some))[:, None]
        if not rule.class_agnostic:
            pairs &= given.classes[better] == given.classes[some]
        if not pairs.any():
            continue
        overlaps = iou(given.boxes[some], given.boxes[better])
        lowest, _ = iou_bounds(given.boxes[some], given.boxes[better], move[some], move[better])
        certain = rule.suppresses(lowest) & pairs
        near += int((rule.suppresses(overlaps) & pairs & ~certain).sum())
        for row in np.flatnonzero(certain.any(axis=1)):
            worst = int(np.argmax(np.where(certain[row], lowest[row], -1.0)))
            pair = int(some[row, 0]), int(better[0, worst])
            breaches.append(_overlap(case, pair, float(overlaps[row, worst]), float(lowest[row, worst])))
    return breaches, near


def _overlap(case: Case, pair: Tuple[int, int], overlap: float, lowest: float) -> Breach:
    """pair: a detection and the better one that should have suppressed it; overlap, lowest: their IoU, and the least within noise."""
    given, threshold = case.given, case.rule.iou_threshold
    index, better = pair
    return case.breach(
        "overlap",
        index,
        f"overlaps {case.name(better)} with IoU {overlap:.6g} (at least {lowest:.6g} within noise), over the threshold {threshold:g}",
        suppressor_place=int(given.positions[better]),
        suppressor_box=numbers(given.boxes[better]),
        suppressor_score=float(given.scores[better]),
        iou=overlap,
        iou_lowest=lowest,
        iou_threshold=threshold,
    )


def missing(case: Case, judged: Ints, taken: Set[int], explained: Set[int]) -> Tuple[List[Breach], Dict[str, int]]:
    """Breaches of candidates left out without a reason, and the number of near ties by the reason that saved
    them.

    Of these candidates only those that the greedy rule keeps are reported, so one dropped detection is one
    breach and not one for each box that it suppressed; those that an unmatched detection was intended for
    (`explained`) suppress likewise, but are not reported twice.
    """
    rule, given, noise = case.rule, case.given, case.tolerance.score
    left = case.pool.take(~np.isin(case.pool.slots, sorted(taken)))
    least = left.best - noise
    strict = replace(rule, score_threshold=rule.score_threshold + score_rounding(rule))
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
    plain, saved["suppression"] = suppressed(case, judged, left, least)
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
    return [missing_breach(case, judged, rest, int(index)) for index in news], counts


def suppressed(case: Case, judged: Ints, left: Pool, least: Floats) -> Tuple[Mask, Mask]:
    """Which entries a detection suppresses by the numbers as they are, and which within noise."""
    given, rule, move = case.given, case.rule, reported_move(case)
    plain, possible = np.zeros(len(least), dtype=bool), np.zeros(len(least), dtype=bool)
    for entries, retained in blocks(left.entries.classes, judged, given.classes, rule.class_agnostic):
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


def blocks(classes: Ints, judged: Ints, retained_classes: Floats, class_agnostic: bool) -> Iterator[Tuple[Ints, Ints]]:
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
        step = max(1, PAIRS // max(1, len(retained)))
        for start in range(0, len(entries), step):
            yield entries[start : start + step], retained


def missing_breach(case: Case, judged: Ints, left: Pool, index: int) -> Breach:
    given, rule, entries = case.given, case.rule, left.entries
    box, label = entries.boxes[index], int(entries.classes[index])
    row, score = int(entries.rows[index]), float(entries.scores[index])
    facts: Dict[str, object] = {
        "image": case.image,
        "row": row,
        "box": numbers(box),
        "class": label,
        "score": score,
        "iou_threshold": rule.iou_threshold,
    }
    subject = f"Image {case.image}: candidate row {row} {describe(box, label, score)} is left out, but "
    rivals = judged if rule.class_agnostic else judged[given.classes[judged] == label]
    if not len(rivals):
        none = "no box is retained" if rule.class_agnostic else "no box of its class is retained"
        return Breach("missing", f"{subject}{none} that could suppress it.", facts)
    overlaps = iou(box, given.boxes[rivals])
    _, highest = iou_bounds(
        box, given.boxes[rivals], left.move[index] + case.tolerance.iou_slack, reported_move(case)[rivals]
    )
    nearest = int(np.argmax(overlaps))
    measured = f"IoU {overlaps[nearest]:.6g} (at most {highest[nearest]:.6g} within noise)"
    if rule.suppresses(highest[nearest]):
        reason = f"scores less, though its {measured} would do for the threshold {rule.iou_threshold:g}"
    else:
        reason = f"has {measured}, not enough for the threshold {rule.iou_threshold:g}"
    facts.update(
        nearest_place=int(given.positions[rivals[nearest]]),
        nearest_box=numbers(given.boxes[rivals[nearest]]),
        nearest_score=float(given.scores[rivals[nearest]]),
        iou=float(overlaps[nearest]),
        iou_highest=float(highest[nearest]),
    )
    return Breach("missing", f"{subject}the nearest retained, {case.name(rivals[nearest])}, {reason}.", facts)


def over_cap(case: Case, judged: Ints) -> List[Breach]:
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


def disorder(case: Case, readable: Ints) -> Tuple[List[Breach], int]:
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
