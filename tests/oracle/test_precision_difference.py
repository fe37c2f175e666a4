"""mAP of two sides on labelled pictures: as pycocotools counts it, and an interval that holds what is so."""

from __future__ import annotations

import contextlib
import io

import numpy as np
import pytest

from detparity.oracle.average_precision import Detected, Objects
from detparity.oracle.detection_pairs import paired
from detparity.oracle.precision_difference import compared


def _drawn(seed, images=12, noise=4.0):
    rng = np.random.default_rng(seed)
    truths, found = [], []
    for _ in range(images):
        count = int(rng.integers(0, 9))
        corner, sides = rng.uniform(0, 80, (count, 2)), rng.uniform(8, 40, (count, 2))
        boxes, classes = np.concatenate([corner, corner + sides], axis=1), rng.integers(0, 3, count)
        truths.append(Objects(boxes, classes))
        more = rng.uniform(0, 60, (5, 2))
        extra = np.concatenate([more, more + 20], axis=1)
        moved = np.concatenate([boxes + rng.normal(0, noise, boxes.shape), extra])
        moved[:, 2:] = np.maximum(moved[:, 2:], moved[:, :2] + 1)  # an inverted box is another one to pycocotools
        labels = np.concatenate([classes, rng.integers(0, 3, 5)])
        found.append(Detected(moved, rng.permutation(len(labels)) / 100 + rng.uniform(0, 0.005, len(labels)), labels))
    return truths, found


def _pycocotools():
    coco = pytest.importorskip("pycocotools.coco")
    return coco.COCO, pytest.importorskip("pycocotools.cocoeval").COCOeval


def _faster_coco_eval():
    found = pytest.importorskip("faster_coco_eval")
    return found.COCO, found.COCOeval_faster


@pytest.mark.parametrize("counter", [_pycocotools, _faster_coco_eval])
@pytest.mark.parametrize("seed", range(4))
def test_it_is_what_other_counters_of_coco_give(seed, counter):
    read, evaluation = counter()
    truths, found = _drawn(seed)
    rows, results = [], []
    for image, (truth, one) in enumerate(zip(truths, found)):
        for (x1, y1, x2, y2), label in zip(truth.boxes, truth.classes):
            box = [x1, y1, x2 - x1, y2 - y1]
            area = box[2] * box[3]
            rows.append({"id": len(rows) + 1, "image_id": image, "category_id": int(label) + 1, "bbox": box})
            rows[-1].update(area=area, iscrowd=0)
        for (x1, y1, x2, y2), score, label in zip(one.boxes, one.scores, one.classes):
            entry = {"image_id": image, "category_id": int(label) + 1, "bbox": [x1, y1, x2 - x1, y2 - y1]}
            results.append({**entry, "score": float(score)})
    with contextlib.redirect_stdout(io.StringIO()):
        truth = read()
        truth.dataset = {"images": [{"id": k} for k in range(len(truths))], "annotations": rows}
        truth.dataset["categories"] = [{"id": k + 1, "name": str(k)} for k in range(3)]
        truth.createIndex()
        run = evaluation(truth, truth.loadRes(results), "bbox")
        run.evaluate()
        run.accumulate()
        run.summarize()
    ours = compared(found, found, truths)

    assert [ours["mAP50-95"].model, ours["mAP50"].model] == pytest.approx(run.stats[:2], abs=1e-9)


def test_the_same_detections_differ_by_nothing():
    truths, found = _drawn(1)
    both = compared(found, found, truths)["mAP50-95"]

    assert both.model == both.file and both.low == both.high == 0.0


def test_what_one_side_loses_shows_in_the_interval():
    truths, found = _drawn(2, images=30, noise=1.0)
    without = [Detected(one.boxes[1:], one.scores[1:], one.classes[1:]) for one in found]
    both = compared(found, without, truths)["mAP50"]

    assert both.low <= both.file - both.model <= both.high < 0.0


def test_too_few_pictures_have_no_interval():
    truths, found = _drawn(3, images=4)

    assert not compared(found, found, truths)["mAP50"].known


def _side(*rows):
    table = np.array(rows, np.float64).reshape(-1, 6)
    return Detected(table[:, :4], table[:, 4], table[:, 5].astype(np.int64))


def test_objects_are_paired_and_changes_named():
    model = _side((0, 0, 10, 10, 0.9, 0), (20, 20, 40, 40, 0.8, 1), (60, 60, 80, 80, 0.7, 2), (0, 50, 9, 59, 0.6, 0))
    file = _side((0, 0, 10, 10, 0.9, 0), (20, 20, 40, 43, 0.8, 1), (60, 60, 80, 80, 0.7, 1), (0, 50, 9, 59, 0.62, 0))
    found = paired(model, file)

    assert set(found.pairs) == {(0, 0), (1, 1), (3, 3)} and set(found.moved) == {(1, 1), (3, 3)}
    assert found.lost == (2,) and found.added == (2,) and found.changed == 4
    assert paired(_side(), file).added == (0, 1, 2, 3)
