"""The reader of authored cases: what is right is read unchanged, and what is not is refused in one line that names the field."""

from __future__ import annotations

import copy
import json
from pathlib import Path
from typing import Any, Callable, Dict, Iterator, List, Tuple

import numpy as np
import pytest

from detparity.core.errors import InputError
from detparity.oracle.authored_cases import (
    Case,
    corners_of,
    detections_of,
    positions_of,
    predictions_of,
    read_case,
    rule_of,
    score_of,
)
from detparity.oracle.nms import NmsRule

RIGHT: Dict[str, Any] = {
    "title": "Two boxes are apart.",
    "box_coding": "centre-size",
    "boxes": [[10, 20, 4, 6], [30.5, 20, -4, 6], [10, 20, 4, 6]],
    "objectness": [1, 0.5, 0.75],
    "scores": [[0.75, 0.5], [0, 1], [0.5, 0]],
    "images": [0, 0, 2],
    "parameters": {
        "iou_threshold": 0.45,
        "score_threshold": 0.25,
        "cap": 7,
        "labels": "every",
        "classes": "offset",
        "thresholds": "inclusive",
        "max_wh": 640,
    },
    "kept": [[0, 0], [0, 1], [1, 1], [2, 0]],
    "alternatives": [[[0, 0], [1, 1], [0, 1], [2, 0]]],
    "rounding": [[]],
    "breach": "missing",
    "working": ["nothing meets"],
    "citation": ["no document"],
}


def read(folder: Path, values: Any) -> Case:
    path = folder / "some_case.json"
    path.write_text(values if isinstance(values, str) else json.dumps(values), encoding="utf-8")
    return read_case(path)


def test_a_case_is_read_unchanged(tmp_path: Path) -> None:
    case = read(tmp_path, RIGHT)

    assert (case.name, case.title, case.box_coding) == ("some_case", "Two boxes are apart.", "centre-size")
    assert case.boxes.tolist() == RIGHT["boxes"] and case.objectness.tolist() == RIGHT["objectness"]
    assert case.scores.tolist() == RIGHT["scores"] and case.images.tolist() == RIGHT["images"]
    assert (case.batch, case.classes) == (3, 2)
    assert vars(case.parameters) == RIGHT["parameters"]
    assert case.answers == (((0, 0), (0, 1), (1, 1), (2, 0)), ((0, 0), (1, 1), (0, 1), (2, 0)))
    assert (case.rounding, case.breach) == (((),), "missing")
    assert (case.working, case.citation) == (("nothing meets",), ("no document",))


def test_what_follows_from_a_case(tmp_path: Path) -> None:
    case = read(tmp_path, RIGHT)

    assert rule_of(case) == NmsRule(0.45, 0.25, 7, best_class=False, inclusive=True)
    assert corners_of(case).tolist() == [[8, 17, 12, 23], [32.5, 17, 28.5, 23], [8, 17, 12, 23]]
    assert score_of(case).tolist() == [[0.75, 0.5], [0, 0.5], [0.375, 0]]
    assert positions_of(case).tolist() == [0, 1, 0]
    nothing = [0, 0, 1, 1, 0, 0, 0]
    assert predictions_of(case).tolist() == [
        [[10, 20, 4, 6, 1, 0.75, 0.5], [30.5, 20, -4, 6, 0.5, 0, 1]],
        [nothing, nothing],
        [[10, 20, 4, 6, 0.75, 0.5, 0], nothing],
    ]
    assert detections_of(case, ((1, 1), (2, 0))).tolist() == [
        [0, 32.5, 17, 28.5, 23, 1, 0.5],
        [2, 8, 17, 12, 23, 0, 0.375],
    ]
    assert detections_of(case, ()).shape == (0, 7)


def test_scores_are_written_in_three_ways(tmp_path: Path) -> None:
    values = changed(RIGHT, images=[0, 0, 0], kept=[], alternatives=[], rounding=[])
    del values["objectness"]
    single = read(tmp_path, changed(values, scores=[0.75, 0.5, -0.0]))
    named = read(tmp_path, changed(values, scores=[{"79": 0.5}, {}, {"0": 1, "1": 0.25}], class_count=80))

    assert single.objectness.tolist() == [0.75, 0.5, 0] and single.scores.tolist() == [[1], [1], [1]]
    assert np.signbit(single.objectness[2])
    assert score_of(single).tolist() == [[0.75], [0.5], [0]]
    assert named.scores.shape == (3, 80)
    assert [named.scores[0, 79], named.scores[1].max(), *named.scores[2, :2]] == [0.5, 0, 1, 0.25]


def changed(values: Dict[str, Any], **fields: Any) -> Dict[str, Any]:
    return {**copy.deepcopy(values), **fields}


def without(name: str) -> Dict[str, Any]:
    return {key: value for key, value in RIGHT.items() if key != name}


def numbers(**fields: Any) -> Dict[str, Any]:
    return changed(RIGHT, parameters={**RIGHT["parameters"], **fields})


def bare(*names: str) -> Dict[str, Any]:
    return changed(RIGHT, parameters={key: value for key, value in RIGHT["parameters"].items() if key not in names})


SEPARATED = {**RIGHT["parameters"], "classes": "separated"}
del SEPARATED["max_wh"]

WRONG: List[Tuple[Any, str]] = [
    ("{", "is not JSON that can be used"),
    ("[]", "holds no object"),
    ('{"title": NaN}', "NaN is no number of a case"),
    ('{"title": "a", "title": "b"}', "'title' is given twice"),
    ("[" * 5000, "is not JSON that can be used"),
    ("[" + "9" * 5000 + "]", "holds no object|is not JSON that can be used"),
    (json.dumps(changed(RIGHT, working=["long " * 20000])), "has [0-9]+ bytes; an authored case has at most 50000"),
    (changed(RIGHT, box="corners"), "unknown field box; known are title"),
    (changed(RIGHT, **{"two\nlines" * 100: 1}), "unknown field two lines"),
    (changed(RIGHT, class_count=2, scores=[{"9" * 1000: 1}, {}, {}]), r"scores\[0\] names class '9+"),
    (without("kept"), "the field kept is missing"),
    ({**without("working"), "citation": []}, "neither working nor citation"),
    (changed(RIGHT, working="nothing meets"), "working is no list"),
    (changed(RIGHT, working=["nothing\nmeets"]), r"working\[0\] must be one line of text"),
    (changed(RIGHT, citation=[" "]), r"citation\[0\] must be one line of text"),
    (changed(RIGHT, title="no stop"), "title must be one sentence"),
    (changed(RIGHT, box_coding="xywh"), "box_coding must be 'corners' or 'centre-size', not xywh"),
    (changed(RIGHT, boxes=[]), "boxes is empty"),
    (changed(RIGHT, boxes=[[1, 2, 3]]), r"boxes\[0\] has 3 numbers, not 4"),
    (changed(RIGHT, boxes=[[1, 2, 3, "4"]] * 3), r"boxes\[0\] holds 4, which is no number"),
    (changed(RIGHT, boxes=[[1, 2, 3, True]] * 3), r"boxes\[0\] holds True, which is no number"),
    (changed(RIGHT, boxes=[[1, 2, 3, 0.1]] * 3), r"boxes\[0\] holds 0.1, which float32 does not hold exactly"),
    (changed(RIGHT, boxes=[[1, 2, 3, 10**60]] * 3), r"boxes\[0\] holds 10+\.\.\., which float32 does not hold exactly"),
    (json.dumps(RIGHT).replace("30.5", "1e999999999"), r"boxes\[1\] holds 1E\+999999999, which float32 does not hold"),
    (changed(RIGHT, scores=[[0.5, 0.5]]), "scores has 1 entries for 3 boxes"),
    (changed(RIGHT, scores=[[0.5, 0.5], [0.5], [0.5, 0.5]]), r"scores\[1\] has 1 numbers and scores\[0\] 2"),
    (changed(RIGHT, scores=[[], [], []]), r"scores\[0\] has 0 numbers"),
    (changed(RIGHT, scores=[[0.5, 1.5], [0, 1], [0, 1]]), r"scores\[0\] must be from 0 to 1, not 1.5"),
    (changed(RIGHT, scores=[[0.5, -0.5], [0, 1], [0, 1]]), r"scores\[0\] must be from 0 to 1, not -0.5"),
    (changed(RIGHT, scores=[0.5, [0.5], 0.5]), "scores mixes numbers, lists and objects"),
    (changed(RIGHT, scores=[0.5, 0.5, 0.5]), "objectness is given twice"),
    (changed(RIGHT, scores=[{}, {}, {}]), "class_count belongs to scores by class name"),
    (changed(RIGHT, class_count=2), "class_count belongs to scores by class name"),
    (changed(RIGHT, class_count=2, scores=[{"2": 1}, {}, {}]), r"scores\[0\] names class '2', which is none of 0 to 1"),
    (changed(RIGHT, class_count=2, scores=[{"01": 1}, {}, {}]), r"scores\[0\] names class '01'"),
    (changed(RIGHT, class_count=0, scores=[{}, {}, {}]), "class_count must be 1 to 1000, not 0"),
    (changed(RIGHT, objectness=[1]), "objectness has 1 entries for 3 boxes"),
    (changed(RIGHT, objectness=[1, 1, 0.3]), r"objectness\[2\] holds 0.3, which float32 does not hold exactly"),
    (changed(RIGHT, images=[0]), "images has 1 entries for 3 boxes"),
    (changed(RIGHT, images=[1, 0, 2]), "images must ascend"),
    (changed(RIGHT, images=[-1, 0, 2]), "images must ascend"),
    (changed(RIGHT, images=[0, 0, 100]), "images must ascend"),
    (changed(RIGHT, images=[0, 0, 1.0]), "images holds 1.0, which is no integer"),
    (changed(RIGHT, parameters=[]), "parameters is no object"),
    (bare("cap"), "the field parameters.cap is missing"),
    (numbers(topk=3), "unknown field parameters.topk"),
    (numbers(labels="all"), "parameters.labels must be 'best' or 'every', not all"),
    (numbers(classes=["separated"]), "parameters.classes must be"),
    (numbers(thresholds=None), "parameters.thresholds must be"),
    (numbers(iou_threshold=1.5), "parameters.iou_threshold must be from 0 to 1"),
    (numbers(score_threshold="0.5"), "parameters.score_threshold holds 0.5, which is no number"),
    (numbers(cap=0), "parameters.cap must be 1 to 10000, not 0"),
    (numbers(cap=10**400), "parameters.cap must be 1 to 10000"),
    (numbers(cap=True), "parameters.cap holds True, which is no integer"),
    (numbers(max_wh=0), "parameters.max_wh must be over 0"),
    (bare("max_wh"), "parameters.max_wh belongs to classes 'offset'"),
    (numbers(classes="separated"), "parameters.max_wh belongs to classes 'offset'"),
    (changed(RIGHT, parameters=SEPARATED), "breach is for a class offset"),
    (changed(RIGHT, breach=""), "breach must be one line of text"),
    (changed(RIGHT, kept=None), "kept is no list"),
    (changed(RIGHT, kept=[[0]]), r"kept holds \[0\], which is no pair"),
    (changed(RIGHT, kept=[[3, 0]]), "kept names row 3 of class 0; there are rows 0 to 2, classes 0 to 1"),
    (changed(RIGHT, kept=[[-1, 0]]), "kept names row -1"),
    (changed(RIGHT, kept=[[0, 2]]), "kept names row 0 of class 2"),
    (changed(RIGHT, kept=[[0, 0], [0, 0]]), "kept names a detection twice"),
    (changed(numbers(labels="best"), alternatives=[]), "kept names a detection twice"),
    (changed(RIGHT, kept=[[2, 0], [0, 0]]), "kept does not keep the images in ascending order"),
    (changed(RIGHT, alternatives=[[0, 0]]), r"alternatives\[0\] is no list"),
    (changed(RIGHT, alternatives=[RIGHT["kept"]]), "an answer is listed twice"),
    (changed(RIGHT, rounding=RIGHT["alternatives"]), "an answer is listed twice"),
]


@pytest.mark.parametrize(("values", "reason"), WRONG, ids=[f"{k}" for k in range(len(WRONG))])
def test_what_is_not_as_documented_is_refused(values: Any, reason: str, tmp_path: Path) -> None:
    with pytest.raises(InputError, match=reason) as refusal:
        read(tmp_path, values)
    text = str(refusal.value)
    assert "\n" not in text and len(text) < 500
    assert text.startswith(str(tmp_path / "some_case.json"))


def test_files_that_are_none_are_refused(tmp_path: Path) -> None:
    (tmp_path / "bytes.json").write_bytes(b"\xff\xfe\x00")
    (tmp_path / "empty.json").write_bytes(b"")
    for name in ("bytes.json", "empty.json", "missing.json", ""):
        with pytest.raises(InputError):
            read_case(tmp_path / name)


ODD = (None, True, -1, 2, 0.1, 1e300, 10**400, "", "best", "\n", [], [[]], [[0, 0]], {}, {"0": 1}, [None], [0, [1]])


def positions(value: Any, put: Callable[[Any], Any]) -> Iterator[Callable[[Any], Any]]:
    """For every position inside a value, a function that returns the complete value with another part there."""
    yield put
    if isinstance(value, (list, dict)):
        for key in range(len(value)) if isinstance(value, list) else list(value):

            def inner(new: Any, key: Any = key) -> Any:
                other = copy.copy(value)
                other[key] = new
                return put(other)

            yield from positions(value[key], inner)


def test_anything_anywhere_is_read_or_refused_in_one_line(tmp_path: Path) -> None:
    refused = read_well = 0
    for replaced in positions(RIGHT, lambda new: new):
        for odd in ODD:
            try:
                read(tmp_path, replaced(odd))
                read_well += 1
            except InputError as error:
                refused += 1
                assert "\n" not in str(error) and len(str(error)) < 600

    assert refused > 500 and read_well > 20
