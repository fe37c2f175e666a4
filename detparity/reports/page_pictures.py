"""Pictures of the HTML page: boxes and labels of model and file over one image, what changed in front."""

from __future__ import annotations

from typing import Any, Dict, List, Mapping, Sequence, Tuple

from detparity.core.text import number
from detparity.reports.findings import Entry

BUDGET = 7_000_000  # letters of all images of a page, which stays under 10 MB
LABELS = 20  # of a picture
LETTER, PLATE = 0.6, 1.25  # width of a letter and height of a label over the size of the font
SIGNS = {"lost": "\u2212 ", "added": "+ "}
SIDES = ("model", "file")
CHANGES = ("moved", "lost", "added")


def within_budget(images: Mapping[str, str]) -> Dict[str, str]:
    """As many of the images, in their order, as a page may hold."""
    left, found = BUDGET, {}
    for key, text in images.items():
        if len(text) <= left:
            found[key] = text
            left -= len(text)
    return found


def pictures(
    shots: Sequence[Entry], images: Mapping[str, str], sides: Tuple[str, str] = SIDES
) -> Tuple[List[Dict[str, Any]], int]:
    """The pictures of a file whose images the page holds, those that changed most first; how many were left out. sides: named so."""
    held = [shot for shot in shots if shot["image"] in images]
    held.sort(key=lambda shot: -_changes(shot))
    return [_picture(shot, sides) for shot in held], len(shots) - len(held)


def stored(files: Sequence[Entry], images: Mapping[str, str]) -> List[Dict[str, Any]]:
    """Each image of the page once, with its size in pixels."""
    sizes = {shot["image"]: (shot["width"], shot["height"]) for file in files for shot in file["pictures"]}
    return [
        {"key": key, "width": width, "height": height, "data": images[key]} for key, (width, height) in sizes.items()
    ]


def _changes(shot: Entry) -> int:
    return sum(int(shot["counts"].get(key, 0)) for key in CHANGES)


def _picture(shot: Entry, sides: Tuple[str, str]) -> Dict[str, Any]:
    counts, font = shot["counts"], max(shot["width"], shot["height"]) / 38
    changed = _changes(shot)
    layers: List[Dict[str, Any]] = []
    labelled: List[Tuple[bool, int, str, Dict[str, Any]]] = []
    for change in (False, True):
        for side in SIDES:
            boxes = [_box(one, shot) for one in shot[side] if bool(one["change"]) == change]
            for box in boxes[_labels(shot, side, change) :]:
                box["label"] = ""
            layers.append({"side": side, "changed": change, "boxes": boxes})
            labelled += [(not change, rank, side, box) for rank, box in enumerate(boxes) if box["label"]]
    labelled.sort(key=lambda one: one[:2])  # what changed first, and neither side's labels before the other's
    _label_at([one[2:] for one in labelled], font, shot)
    return {
        "name": shot["name"],
        "image": shot["image"],
        "width": shot["width"],
        "height": shot["height"],
        "font": round(font, 1),
        "plate": round(PLATE * font, 1),
        "line": round(max(shot["width"], shot["height"]) / 220, 2),
        "sentence": sentence(counts, sides),
        "brief": _brief(counts, sides),
        "changes": _listed(counts, CHANGES),
        "changed": changed,
        "layers": layers,
        "rows": _rows(shot),
    }


def _labels(shot: Entry, side: str, change: bool) -> int:
    """How many boxes of a layer have a label: of what changed if anything did, shared between the sides; else of the model's."""
    if not _changes(shot):
        return LABELS if side == "model" and not change else 0
    if not change:
        return 0
    mine, yours = (sum(bool(one["change"]) for one in shot[key]) for key in (side, SIDES[side == SIDES[0]]))
    return max(LABELS // 2, LABELS - yours) if mine + yours > LABELS else LABELS


def glance(entry: Entry) -> str:
    """One line on all pictures of a file: detections of both sides and, with labels, how well they do; empty without pictures."""
    own = entry.get("images", {})
    shots = entry.get("pictures", [])
    count = len(own["each"]) if own else len(shots)
    if not count:
        return ""
    total = own["total"] if own else {key: sum(shot["counts"][key] for shot in shots) for key in shots[0]["counts"]}
    precise = own.get("precision", {}).get("numbers", {}).get("mAP50")
    parts = [
        f"On {count} {'of your ' if own else ''}picture{'s' if count > 1 or own else ''}: {_lower(sentence(total))}"
    ]
    parts += [f"mAP50 {precise['model']:.3f} of the model, {precise['file']:.3f} of the file."] if precise else []
    return " ".join(parts)


def _lower(text: str) -> str:
    return text[:1].lower() + text[1:]


def sentence(counts: Mapping[str, int], sides: Tuple[str, str] = SIDES) -> str:
    if not counts["model"] and not counts["file"]:
        return "Nothing is detected by either."
    changes = _listed(counts, CHANGES)
    same = f"{counts['same']} the same"
    return f"{_brief(counts, sides)[:-1]}: {', '.join(filter(None, (same, changes)))}."


def _brief(counts: Mapping[str, int], sides: Tuple[str, str]) -> str:
    if not counts["model"] and not counts["file"]:
        return "Nothing is detected by either."
    return f"The {sides[0]} detects {counts['model']}, the {sides[1]} {counts['file']}."


def _listed(counts: Mapping[str, int], names: Sequence[str]) -> str:
    return ", ".join(f"{counts[name]} {name}" for name in names if counts.get(name))


def _box(one: Entry, shot: Entry) -> Dict[str, Any]:
    """A rectangle inside its picture, with its label; only: whether the other side has nothing there."""
    x1, x2 = sorted(min(max(one["box"][k], 0.0), float(shot["width"])) for k in (0, 2))
    y1, y2 = sorted(min(max(one["box"][k], 0.0), float(shot["height"])) for k in (1, 3))
    return {
        "x": round(x1, 1),
        "y": round(y1, 1),
        "width": round(x2 - x1, 1),
        "height": round(y2 - y1, 1),
        "label": f"{SIGNS.get(one['change'], '')}{one['class'][:24]} {one['score']:.2f}",
        "only": one["change"] in SIGNS,
    }


def _label_at(labelled: Sequence[Tuple[str, Dict[str, Any]]], font: float, shot: Entry) -> None:
    """Give each label a position at its box that covers no earlier label: the model's above, the file's below. Where there is none,
    the box has no label, and the list under the picture has it."""
    high = PLATE * font
    taken: List[Tuple[float, float, float, float]] = []
    for side, box in labelled:
        wide = (len(box["label"]) + 1) * LETTER * font
        bottom = box["y"] + box["height"]
        above = (box["y"] - high, box["y"], box["y"] - 2 * high, box["y"] + high)
        below = (bottom, bottom - high, bottom + high, bottom - 2 * high)
        rows = [*above, *below] if side == SIDES[0] else [*below, *above]
        spots = [(left, top) for left in (box["x"], box["x"] + box["width"] - wide) for top in rows]
        spots = [_inside(left, top, wide, high, shot) for left, top in spots]
        clear = [spot for spot in spots if not any(_meet((*spot, wide, high), other) for other in taken)]
        if not clear:
            box["label"] = ""
            continue
        left, top = clear[0]
        taken.append((left, top, wide, high))
        box.update(left=round(left, 1), top=round(top, 1), wide=round(wide, 1))


def _inside(left: float, top: float, wide: float, high: float, shot: Entry) -> Tuple[float, float]:
    return max(min(left, shot["width"] - wide), 0.0), max(min(top, shot["height"] - high), 0.0)


def _meet(one: Sequence[float], other: Sequence[float]) -> bool:
    """Whether two rectangles (left, top, width, height) overlap."""
    return all(one[k] < other[k] + other[k + 2] and other[k] < one[k] + one[k + 2] for k in (0, 1))


def _rows(shot: Entry) -> List[Tuple[str, str, str]]:
    """What changed, as text: change, class, and by how much."""
    rows = [
        (
            "moved",
            one["class"],
            f"box by {number(one['pixels'])} px, score {one['score'][0]:.3f} to {one['score'][1]:.3f}",
        )
        for one in shot["moved"]
    ]
    for side in SIDES:
        for one in shot[side]:
            if one["change"] in ("lost", "added"):
                box = ", ".join(f"{value:.0f}" for value in one["box"])
                rows.append((one["change"], one["class"], f"score {one['score']:.3f} at {box}"))
    return rows[:LABELS]
