"""Labels of the user's pictures: YOLO text files beside each other in a folder, or one COCO file."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any, Dict, List, Optional, Sequence, Tuple

import numpy as np

from detparity.core.errors import InputError
from detparity.inputs.photos import Photo

MOST_BYTES = 1_000_000_000  # of a COCO file
Labels = Tuple[np.ndarray, np.ndarray]  # corners (n, 4) in pixels of the stored picture, classes (n,)


def read(path: Path, photos: Sequence[Photo], names: Sequence[str]) -> Tuple[List[Optional[Labels]], List[str]]:
    """The labels of each picture, None where there are none of it, and notes for a report. names: of the model's classes.

    Raises InputError, in one line, for labels that cannot be used or that are of none of the pictures.
    """
    found, notes = _coco(path, photos, names) if path.is_file() else (_yolo(path, photos), [])
    missing = sum(one is None for one in found)
    if missing == len(photos):
        raise InputError(f"--labels {path} holds labels of none of the {len(photos)} pictures")
    if missing:
        notes.append(f"{missing} of {len(photos)} pictures have no labels and do not count for mAP")
    if not any(one is not None and len(one[1]) for one in found):
        raise InputError(f"--labels {path} holds no object on any of the {len(photos)} pictures")
    return found, notes


def _yolo(folder: Path, photos: Sequence[Photo]) -> List[Optional[Labels]]:
    """`class cx cy w h` in fractions of the picture, one file a picture, of the same path or of the same name."""
    found: List[Optional[Labels]] = []
    for photo in photos:
        tried = (folder / Path(photo.name).with_suffix(".txt"), folder / f"{photo.path.stem}.txt")
        path = next((one for one in tried if one.is_file()), None)
        found.append(None if path is None else _yolo_file(path, photo))
    return found


def _yolo_file(path: Path, photo: Photo) -> Labels:
    rows = []
    try:
        for number, line in enumerate(path.read_text(encoding="utf-8").splitlines(), 1):
            if line.strip():
                values = [float(part) for part in line.split()]
                if len(values) != 5 or not np.isfinite(values).all() or values[0] < 0 or values[0] % 1:
                    raise InputError(f"{path}, line {number} is not `class cx cy w h`")
                rows.append(values)
    except (ValueError, UnicodeDecodeError):
        raise InputError(f"{path} is not a YOLO label file: `class cx cy w h` on each line") from None
    table = np.array(rows, np.float64).reshape(-1, 5)
    height, width = photo.size
    centre, half = table[:, 1:3] * (width, height), table[:, 3:5] * (width, height) / 2
    return np.concatenate([centre - half, centre + half], axis=1), table[:, 0].astype(np.int64)


def _coco(path: Path, photos: Sequence[Photo], names: Sequence[str]) -> Tuple[List[Optional[Labels]], List[str]]:
    if path.stat().st_size > MOST_BYTES:
        raise InputError(f"--labels {path} has {path.stat().st_size / 1e6:.0f} MB, more than is read")
    try:
        data = json.loads(path.read_text(encoding="utf-8"))
        stems = {Path(str(image["file_name"])).name: image["id"] for image in data["images"]}
        classes, notes = _classes(data["categories"], names)
        boxes: Dict[Any, List[Tuple[List[float], int]]] = {}
        crowds = 0
        for one in data["annotations"]:
            if one.get("iscrowd"):
                crowds += 1
                continue
            x, y, width, height = (float(value) for value in one["bbox"])
            boxes.setdefault(one["image_id"], []).append(([x, y, x + width, y + height], classes[one["category_id"]]))
    except (ValueError, KeyError, TypeError, AttributeError, RecursionError) as error:
        raise InputError(f"--labels {path} is not a COCO file ({type(error).__name__}: {str(error)[:80]})") from None
    found: List[Optional[Labels]] = []
    for photo in photos:
        image = stems.get(photo.path.name)
        rows = boxes.get(image, [])
        corners = np.array([box for box, _ in rows], np.float64).reshape(-1, 4)
        found.append(None if image is None else (corners, np.array([label for _, label in rows], np.int64)))
    return found, notes + ([f"{crowds} crowd regions are left out"] if crowds else [])


def _classes(categories: Sequence[Any], names: Sequence[str]) -> Tuple[Dict[Any, int], List[str]]:
    """Class numbers of the model by category: by name where the model has all of them, else in the order of their ids."""
    called = {one["id"]: str(one["name"]) for one in categories}
    if set(called.values()) <= set(names):
        return {key: names.index(name) for key, name in called.items()}, []
    order = {key: index for index, key in enumerate(sorted(called))}
    return order, ["the model does not have the categories by name: they are taken in the order of their ids"]
