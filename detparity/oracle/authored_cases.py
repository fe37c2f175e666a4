"""Authored suppression cases: golden files written by hand, never by a tool, so they are read strictly.

docs/authored_cases.md describes the format. Boxes and scores must be exact in float32, so that every engine starts from the
numbers in the file and a tie in the file is a tie in the engine.
"""

from __future__ import annotations

import json
from dataclasses import dataclass
from decimal import Decimal
from pathlib import Path
from typing import Any, Dict, List, Mapping, NoReturn, Optional, Sequence, Tuple

import numpy as np

from detparity.core.errors import InputError, clipped
from detparity.core.files import require_file
from detparity.oracle.boxes import Floats, corners
from detparity.oracle.nms import Ints, NmsRule

# The row and the class of each detection: images ascending, scores descending within an image.
Answer = Tuple[Tuple[int, int], ...]

CODINGS = ("corners", "centre-size")
LARGEST_FILE, LARGEST_CAP = 50_000, 10_000  # bytes, detections
NEEDED = ("title", "box_coding", "boxes", "scores", "parameters", "kept")
OPTIONAL = ("class_count", "objectness", "images", "alternatives", "rounding", "breach", "working", "citation")
CHOICES = {
    "labels": ("best", "every"),
    "classes": ("separated", "agnostic", "offset"),
    "thresholds": ("strict", "inclusive"),
}


@dataclass(frozen=True)
class Parameters:
    """What the case suppresses by. labels: each row's best class or every (row, class) pair; classes: suppression within a class,
    across classes, or across classes after boxes are shifted by class * max_wh pixels; thresholds: strict where a number equal to
    its threshold does not pass it, inclusive where it does; cap: of one image."""

    iou_threshold: float
    score_threshold: float
    cap: int
    labels: str
    classes: str
    thresholds: str
    max_wh: Optional[float] = None


@dataclass(frozen=True, eq=False)
class Case:
    """One authored case. boxes (rows, 4) as written, by `box_coding`; scores (rows, classes) of the classes and objectness (rows,);
    images (rows,), ascending. expected: the answer, `kept` in the file; alternatives: what is equally right, since scores tie;
    rounding: what only the rounding of a float32 engine makes right; breach: the kind by which the certificate must refuse
    `expected`, None where it must accept it."""

    name: str
    title: str
    box_coding: str
    boxes: Floats
    objectness: Floats
    scores: Floats
    images: Ints
    parameters: Parameters
    expected: Answer
    alternatives: Tuple[Answer, ...]
    rounding: Tuple[Answer, ...]
    breach: Optional[str]
    working: Tuple[str, ...]
    citation: Tuple[str, ...]

    @property
    def answers(self) -> Tuple[Answer, ...]:
        """Every right answer."""
        return (self.expected, *self.alternatives)

    @property
    def batch(self) -> int:
        """Number of images, those without a row included."""
        return int(self.images[-1]) + 1

    @property
    def classes(self) -> int:
        return self.scores.shape[1]


def read_case(path: Path) -> Case:
    """Return the authored case in `path`. Raises InputError, one line that names file and field, where it is not as documented."""
    values = _load(path)
    try:
        return _case(path.stem, values)
    except InputError as error:
        raise InputError(f"{path}: {clipped(error)}") from None


def rule_of(case: Case) -> NmsRule:
    """The rule that the case's parameters promise. A class offset promises that classes do not suppress each other."""
    numbers = case.parameters
    return NmsRule(
        numbers.iou_threshold,
        numbers.score_threshold,
        numbers.cap,
        best_class=numbers.labels == "best",
        class_agnostic=numbers.classes == "agnostic",
        inclusive=numbers.thresholds == "inclusive",
    )


def corners_of(case: Case) -> Floats:
    """Boxes (rows, 4) as x1, y1, x2, y2, in whatever diagonal order they were written."""
    return corners(case.boxes) if case.box_coding == "centre-size" else case.boxes


def score_of(case: Case) -> Floats:
    """Scores (rows, classes): objectness times class score, or the objectness alone with one class."""
    column = case.objectness[:, None]
    return column if case.classes == 1 else column * case.scores


def positions_of(case: Case) -> Ints:
    """The position of each row (rows,) among those of its image."""
    return np.array([int((case.images[:row] == image).sum()) for row, image in enumerate(case.images)], dtype=np.int64)


def predictions_of(case: Case) -> Floats:
    """The case as decoded predictions (batch, rows of the fullest image, 5 + classes); what is left is background."""
    positions = positions_of(case)
    found = np.zeros((case.batch, int(positions.max()) + 1, 5 + case.classes))
    found[..., 2:4] = 1.0
    x1, y1, x2, y2 = corners_of(case).T
    found[case.images, positions, :4] = np.stack([(x1 + x2) / 2, (y1 + y2) / 2, x2 - x1, y2 - y1], axis=1)
    found[case.images, positions, 4] = case.objectness
    found[case.images, positions, 5:] = case.scores
    return found


def detections_of(case: Case, answer: Answer) -> Floats:
    """An answer as rows (n, 7): image, x1, y1, x2, y2, class, score."""
    rows = [row for row, _ in answer]
    labels = [label for _, label in answer]
    scores = score_of(case)[rows, labels]
    return np.column_stack([case.images[rows], corners_of(case)[rows], labels, scores]).reshape(-1, 7)


# Reading


def _refuse(reason: str) -> NoReturn:
    raise InputError(reason)


def _load(path: Path) -> Dict[str, Any]:
    require_file(path, "an authored case")
    content = path.read_bytes()
    if len(content) > LARGEST_FILE:
        raise InputError(f"{path} has {len(content)} bytes; an authored case has at most {LARGEST_FILE}")

    def once(pairs: Sequence[Tuple[str, Any]]) -> Dict[str, Any]:
        names = [name for name, _ in pairs]
        twice = sorted({name for name in names if names.count(name) > 1})
        if twice:
            raise ValueError(f"the field {twice[0]!r} is given twice")
        return dict(pairs)

    def constant(name: str) -> NoReturn:
        raise ValueError(f"{name} is no number of a case")

    try:
        values = json.loads(
            content.decode("utf-8"), object_pairs_hook=once, parse_float=Decimal, parse_constant=constant
        )
    except (ValueError, RecursionError) as error:
        raise InputError(f"{path} is not JSON that can be used: {clipped(error)}") from None
    if not isinstance(values, dict):
        raise InputError(f"{path} holds no object")
    return values


def _case(name: str, values: Mapping[str, Any]) -> Case:
    _fields(values, NEEDED, OPTIONAL, "")
    if not values.get("working") and not values.get("citation"):
        _refuse("neither working nor citation says why the answer is right")
    coding = _choice(values["box_coding"], CODINGS, "box_coding")
    boxes = _boxes(values["boxes"])
    count = len(boxes)
    objectness, scores = _scores(values, count)
    parameters = _parameters(values["parameters"])
    images = _images(values.get("images", [0] * count), count)
    breach = _sentence(values["breach"], "breach") if "breach" in values else None
    if breach and parameters.classes != "offset":
        _refuse("breach is for a class offset that lets classes meet")

    def answer(found: Any, where: str) -> Answer:
        return _answer(found, where, images, scores.shape[1], parameters)

    expected = answer(values["kept"], "kept")
    others = {
        field: tuple(answer(found, f"{field}[{k}]") for k, found in enumerate(_list(values.get(field, []), field)))
        for field in ("alternatives", "rounding")
    }
    listed = [expected, *others["alternatives"], *others["rounding"]]
    if len(set(listed)) < len(listed):
        _refuse("an answer is listed twice among kept, alternatives and rounding")
    return Case(
        name,
        _title(values["title"]),
        coding,
        boxes,
        objectness,
        scores,
        images,
        parameters,
        expected,
        others["alternatives"],
        others["rounding"],
        breach,
        _lines(values.get("working", []), "working"),
        _lines(values.get("citation", []), "citation"),
    )


def _parameters(values: Any) -> Parameters:
    if not isinstance(values, dict):
        _refuse("parameters is no object")
    needed = ("iou_threshold", "score_threshold", "cap", *CHOICES)
    _fields(values, needed, ("max_wh",), "parameters.")
    chosen = {key: _choice(values[key], known, f"parameters.{key}") for key, known in CHOICES.items()}
    shift = None
    if (chosen["classes"] == "offset") != ("max_wh" in values):
        _refuse("parameters.max_wh belongs to classes 'offset', and classes 'offset' needs it")
    if "max_wh" in values:
        shift = _exact(values["max_wh"], "parameters.max_wh")
        if shift <= 0:
            _refuse(f"parameters.max_wh must be over 0, not {shift:g}")
    cap = _integer(values["cap"], "parameters.cap")
    if not 1 <= cap <= LARGEST_CAP:
        _refuse(f"parameters.cap must be 1 to {LARGEST_CAP}, not {cap}")
    limits = {key: _share(_number(values[key], f"parameters.{key}"), f"parameters.{key}") for key in needed[:2]}
    return Parameters(limits["iou_threshold"], limits["score_threshold"], cap, max_wh=shift, **chosen)


def _boxes(values: Any) -> Floats:
    rows = _list(values, "boxes")
    if not rows:
        _refuse("boxes is empty")
    for row, box in enumerate(rows):
        if len(_list(box, f"boxes[{row}]")) != 4:
            _refuse(f"boxes[{row}] has {len(box)} numbers, not 4")
    return np.array([[_exact(number, f"boxes[{row}]") for number in box] for row, box in enumerate(rows)])


def _scores(values: Mapping[str, Any], count: int) -> Tuple[Floats, Floats]:
    """Objectness (rows,) and class scores (rows, classes): a number a row is the objectness of the only class."""
    rows = _list(values["scores"], "scores")
    _length(rows, count, "scores")
    kinds = {"object" if isinstance(row, dict) else "list" if isinstance(row, list) else "number" for row in rows}
    if len(kinds) > 1:
        _refuse("scores mixes numbers, lists and objects")
    kind = kinds.pop()
    if (kind == "object") != ("class_count" in values):
        _refuse("class_count belongs to scores by class name, and those need it")
    if kind == "number":
        if "objectness" in values:
            _refuse("objectness is given twice: with one number a row, scores is the objectness")
        found = np.array([_score(row, f"scores[{k}]") for k, row in enumerate(rows)])
        return found, np.ones((count, 1))
    table = _by_name(rows, values["class_count"]) if kind == "object" else _by_position(rows)
    if "objectness" not in values:
        return np.ones(count), table
    given = _list(values["objectness"], "objectness")
    _length(given, count, "objectness")
    return np.array([_score(number, f"objectness[{k}]") for k, number in enumerate(given)]), table


def _by_position(rows: Sequence[List[Any]]) -> Floats:
    for k, row in enumerate(rows):
        if not row or len(row) != len(rows[0]):
            _refuse(f"scores[{k}] has {len(row)} numbers and scores[0] {len(rows[0])}; one per class is needed")
    return np.array([[_score(number, f"scores[{k}]") for number in row] for k, row in enumerate(rows)])


def _by_name(rows: Sequence[Dict[str, Any]], class_count: Any) -> Floats:
    classes = _integer(class_count, "class_count")
    if not 1 <= classes <= 1000:
        _refuse(f"class_count must be 1 to 1000, not {classes}")
    table = np.zeros((len(rows), classes))
    for k, row in enumerate(rows):
        for label, number in row.items():
            if label not in map(str, range(classes)):
                _refuse(f"scores[{k}] names class {label!r}, which is none of 0 to {classes - 1}")
            table[k, int(label)] = _score(number, f"scores[{k}]")
    return table


def _images(values: Any, count: int) -> Ints:
    numbers = [_integer(value, "images") for value in _list(values, "images")]
    _length(numbers, count, "images")
    if numbers != sorted(numbers) or not 0 <= numbers[0] <= numbers[-1] < 100:
        _refuse("images must ascend from 0 or more and stay under 100")
    return np.array(numbers, dtype=np.int64)


def _answer(values: Any, where: str, images: Ints, classes: int, parameters: Parameters) -> Answer:
    pairs: List[Tuple[int, int]] = []
    for pair in _list(values, where):
        if len(_list(pair, where)) != 2:
            _refuse(f"{where} holds {pair}, which is no pair of row and class")
        row, label = (_integer(number, where) for number in pair)
        if not (0 <= row < len(images) and 0 <= label < classes):
            _refuse(
                f"{where} names row {row} of class {label}; there are rows 0 to {len(images) - 1}, classes 0 to {classes - 1}"
            )
        pairs.append((row, label))
    reported = [row for row, _ in pairs] if parameters.labels == "best" else pairs
    if len(set(reported)) < len(reported):
        _refuse(f"{where} names a detection twice")
    if any(images[a] > images[b] for (a, _), (b, _) in zip(pairs, pairs[1:])):
        _refuse(f"{where} does not keep the images in ascending order")
    return tuple(pairs)


# Small values


def _fields(values: Mapping[str, Any], needed: Sequence[str], optional: Sequence[str], prefix: str) -> None:
    unknown = sorted(set(values) - set(needed) - set(optional))
    if unknown:
        _refuse(f"unknown field {prefix}{unknown[0]}; known are {', '.join((*needed, *optional))}")
    missing = [name for name in needed if name not in values]
    if missing:
        _refuse(f"the field {prefix}{missing[0]} is missing")


def _list(value: Any, where: str) -> List[Any]:
    if not isinstance(value, list):
        _refuse(f"{where} is no list")
    return value


def _length(values: Sequence[Any], count: int, where: str) -> None:
    if len(values) != count:
        _refuse(f"{where} has {len(values)} entries for {count} boxes")


def _choice(value: Any, known: Sequence[str], where: str) -> str:
    if value not in known:
        _refuse(f"{where} must be {' or '.join(map(repr, known))}, not {clipped(ValueError(value), 60)}")
    return str(value)


def _sentence(value: Any, where: str) -> str:
    if not isinstance(value, str) or not value.strip() or "\n" in value:
        _refuse(f"{where} must be one line of text")
    return value


def _title(value: Any) -> str:
    if not _sentence(value, "title").endswith("."):
        _refuse("title must be one sentence that ends in a full stop")
    return str(value)


def _lines(value: Any, where: str) -> Tuple[str, ...]:
    return tuple(_sentence(line, f"{where}[{k}]") for k, line in enumerate(_list(value, where)))


def _integer(value: Any, where: str) -> int:
    if isinstance(value, bool) or not isinstance(value, int):
        _refuse(f"{where} holds {clipped(ValueError(value), 60)}, which is no integer")
    return value


def _number(value: Any, where: str) -> float:
    if isinstance(value, bool) or not isinstance(value, (int, Decimal)):
        _refuse(f"{where} holds {clipped(ValueError(value), 60)}, which is no number")
    return float(Decimal(value))


def _exact(value: Any, where: str) -> float:
    """A number that float32 holds exactly."""
    number = _number(value, where)
    with np.errstate(over="ignore"):
        single = float(np.float32(number))
    if Decimal(single) != Decimal(value):
        _refuse(f"{where} holds {clipped(ValueError(value), 60)}, which float32 does not hold exactly")
    return number


def _share(number: float, where: str) -> float:
    if not 0 <= number <= 1:
        _refuse(f"{where} must be from 0 to 1, not {number:g}")
    return number


def _score(value: Any, where: str) -> float:
    return _share(_exact(value, where), where)
