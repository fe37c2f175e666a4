"""Detections of any layout: boxes in pixels, scores and classes, from the tables of one image."""

from __future__ import annotations

from typing import List, Mapping, Optional, Tuple

import numpy as np

from detparity.checks.mean_ap import suppressed
from detparity.core.layout import BOX, CLASS, FRACTION, LOGIT, SCORE, Layout, fields_of
from detparity.core.vocabulary import Size
from detparity.oracle.average_precision import Detected
from detparity.oracle.boxes import corners
from detparity.oracle.nms import NmsRule


def unreadable(layout: Layout) -> Optional[str]:
    """Why rows of a layout are no detections, as a clause; None where they are."""
    roles = {field.role: field for one in layout.outputs for field in one.fields}
    if not layout.box or BOX not in roles or SCORE not in roles:
        return f"the layout {layout.name!r} does not say which numbers are boxes and scores (--layout does)"
    if roles[SCORE].unit == LOGIT:
        return f"the layout {layout.name!r} does not say how its logits become scores"
    return None


def detected(layout: Layout, tables: Mapping[str, np.ndarray], size: Size, rule: NmsRule) -> Detected:
    """What one image holds under a rule: a selection as it is, over the rule's score; else after the reference suppression."""
    boxes: List[np.ndarray] = []
    scores: List[np.ndarray] = []
    classes: List[np.ndarray] = []
    for one, values in zip(layout.outputs, tables.values()):
        for field in fields_of(one, values.shape[1]):
            columns = values[:, field.start : field.stop]
            if field.role == BOX:
                boxes.append(columns * _unit(field.unit, columns.shape[1], size))
            elif field.role == SCORE:
                scores.append(columns)
            elif field.role == CLASS:
                classes.append(columns)
    box, score, label = _joined(boxes, scores, classes)
    if layout.selected or classes:
        return _chosen(corners(box) if layout.box == "cxcywh" else box, score, label, rule)
    centre = box if layout.box == "cxcywh" else _centres(box)
    return suppressed(np.concatenate([centre, np.ones((len(box), 1)), score], axis=1), rule)


def _joined(
    boxes: List[np.ndarray], scores: List[np.ndarray], classes: List[np.ndarray]
) -> Tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Boxes (n, 4), scores (n, classes) with an objectness multiplied in, and classes (n,), where they are stated."""
    box = np.concatenate(boxes, axis=1)[:, :4]
    score = scores[-1] if len(scores) == 1 else scores[0] * scores[-1]
    return box, score, (classes[0][:, 0] if classes else np.zeros(len(box)))


def _chosen(boxes: np.ndarray, scores: np.ndarray, labels: np.ndarray, rule: NmsRule) -> Detected:
    best = scores.max(axis=1, initial=0.0)
    if scores.shape[1] > 1:
        labels = scores.argmax(axis=1).astype(np.float64)
    fine = np.isfinite(boxes).all(axis=1) & np.isfinite(best) & np.isfinite(labels) & (best > rule.score_threshold)
    return Detected(boxes[fine], best[fine], np.rint(labels[fine]).astype(np.int64))


def _unit(unit: str, columns: int, size: Size) -> np.ndarray:
    """What turns box columns into pixels."""
    height, width = size
    return np.array(([width, height] * 2)[:columns], np.float64) if unit == FRACTION else np.ones(columns)


def _centres(boxes: np.ndarray) -> np.ndarray:
    return np.concatenate([(boxes[:, :2] + boxes[:, 2:]) / 2, boxes[:, 2:] - boxes[:, :2]], axis=1)
