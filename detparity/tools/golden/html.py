"""The pending goldens as one HTML page: each change with its pictures, whether parity holds, and the commands that decide."""

from __future__ import annotations

from typing import Any, Dict, List, Mapping, Tuple

from detparity.core.text import listed, number
from detparity.inputs import images
from detparity.inputs.encoded import data_uri
from detparity.reports.html import rendered
from detparity.reports.page_pictures import pictures, stored, within_budget
from detparity.tools.golden.compare import paired
from detparity.tools.golden.pending import Pending
from detparity.tools.golden.picture import LARGEST, near
from detparity.tools.golden.review import WORDS, Review, clipped_words, decisions, group_of, groups, text_diff

NOW = "file now"
UNREADABLE = (KeyError, TypeError, ValueError, IndexError)  # what a pending file from anywhere may raise


def page(review: Review) -> str:
    """Raises InputError where jinja2 is not installed."""
    found = groups(review)
    changes = [_change(review, group[0]) for group in found]
    made: Dict[str, str] = {}
    shown: List[Any] = []
    for change in changes:
        made.update(change.pop("images"))
        change["same_pictures"] = next((name for shots, name in shown if shots and shots == change["shots"]), "")
        shown.append((change["shots"], change["name"]))
        if change["same_pictures"]:
            change["shots"] = []
    held = within_budget(made)
    for change in changes:
        change["pictures"], _ = pictures(change.pop("shots"), held, (change["drawn"], NOW))
    lost = sum(not one.holds for one in review.waiting)
    return rendered(
        "review.html",
        groups=changes,
        images=stored(changes, held),
        heading=_heading(review, len(found), lost),
        lost=lost,
        now=NOW,
        folder=str(review.folders.pending),
    )


def _heading(review: Review, changes: int, lost: int) -> str:
    count = len(review.waiting)
    if not count:
        return "No golden waits for review"
    parts = [f"{count} golden{'s wait' if count > 1 else ' waits'} for review"]
    parts += [f"{changes} different change{'s' if changes > 1 else ''}"]
    return ", ".join([*parts, f"parity lost in {lost}" if lost else "parity holds"])


def _change(review: Review, one: Pending) -> Dict[str, Any]:
    others = group_of(review, one)[1:]
    passed = sum(outcome == "passed" for outcome in one.parity.values())
    accept, reject = decisions(review, one)
    facts = [("Subject", one.subject), ("Lane", one.lane), ("Parity", f"{passed} of {len(one.parity)} checks passed")]
    facts += [("Same change", listed([other.name for other in others], 12))] if others else []
    shots, found, why = _shots(one)
    return {
        "name": one.name,
        "holds": one.holds,
        "facts": facts,
        "words": clipped_words(one, WORDS),
        "lost": one.lost,
        "text": text_diff(review, one),
        "accept": accept,
        "reject": reject,
        "drawn": one.drawn,
        "changed": _limits(one),
        "shots": shots,
        "images": found,
        "not_drawn": why,
    }


def _limits(one: Pending) -> str:
    allowed = one.seen.get("now", {}).get("tolerance", {}) if isinstance(one.seen.get("now"), dict) else {}
    if not {"box", "score"} <= set(allowed) or not all(isinstance(allowed[key], (int, float)) for key in allowed):
        return "another position or score"
    return f"a box over {number(allowed['box'])} px or a score over {number(allowed['score'])} away"


def _shots(one: Pending) -> Tuple[List[Dict[str, Any]], Dict[str, str], str]:
    """Records of pictures as a report has them, their images by key, and why there are none."""
    if not one.seen:
        return [], {}, ""
    try:
        before, now = one.seen["before"], one.seen["now"]
        if [before[key] for key in ("pictures", "size")] != [now[key] for key in ("pictures", "size")]:
            return [], {}, "the two were taken of different scenes"
        height, width = (int(side) for side in now["size"])
        if not (0 < height <= LARGEST and 0 < width <= LARGEST and 0 < len(now["pictures"]) <= 16):
            return [], {}, f"{len(now['pictures'])} scenes of {height}x{width}"
        shots, found = [], {}
        for index, (kind, seed) in enumerate(now["pictures"]):
            key = f"{kind}-{seed}-{height}-{width}"
            found[key] = data_uri(images.make(str(kind), (height, width), int(seed)))
            sides = [[d for d in side["detections"] if d[0] == index] for side in (before, now)]
            shot = {"name": f"{kind} {seed}", "height": height, "width": width, "image": key}
            shots.append({**shot, **_compared(sides, now["tolerance"])})
    except UNREADABLE as error:
        return [], {}, f"the pending file does not hold what a picture needs ({type(error).__name__})"
    return shots, found, ""


def _compared(sides: List[List[Any]], tolerance: Mapping[str, float]) -> Dict[str, Any]:
    """What changed between two sets of detections (image, class, score, corners) on one picture."""
    lost, added, pairs = paired(*sides)
    moved = [pair for pair in pairs if not near(pair, tolerance)]
    same = [pair for pair in pairs if near(pair, tolerance)]
    counts = {"model": len(sides[0]), "file": len(sides[1]), "same": len(same)}
    return {
        "counts": {**counts, "moved": len(moved), "lost": len(lost), "added": len(added)},
        "model": [
            *(_box(one, "lost") for one in lost),
            *(_box(was, "moved") for was, _ in moved),
            *(_box(was, "") for was, _ in same),
        ],
        "file": [
            *(_box(one, "added") for one in added),
            *(_box(new, "moved") for _, new in moved),
            *(_box(new, "") for _, new in same),
        ],
        "moved": [
            {
                "class": _class(was),
                "pixels": max(abs(x - y) for x, y in zip(was[3:], new[3:])),
                "score": [was[2], new[2]],
            }
            for was, new in moved
        ],
    }


def _box(one: Any, change: str) -> Dict[str, Any]:
    corners = [float(value) for value in one[3:7]]
    return {"box": corners, "score": float(one[2]), "class": _class(one), "change": change}


def _class(one: Any) -> str:
    return one[1] if isinstance(one[1], str) else f"class {int(one[1])}"
