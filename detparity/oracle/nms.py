"""Reference non-maximum suppression in float64, written for clarity, not for speed.

Three operators share one greedy rule (`greedy`) and differ in which candidates enter and what happens exactly
on a threshold, where a float32 engine may decide either; verdicts therefore never depend on those cases
(`nms_certificate`).

Predictions are decoded: (rows, 5 + nc) with cx, cy, w, h in pixels, objectness and class scores in 0..1. With
one class the score is the objectness alone: a single-class model's class score is not trained. A row with a
number that is not finite is no candidate: what an engine does with it is undefined.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import List, Optional, Tuple

import numpy as np
import numpy.typing as npt

from detparity.core.errors import InputError
from detparity.oracle.boxes import Floats, corners, iou

Ints = npt.NDArray[np.int64]

# Candidates that enter the suppression of `EfficientNMS_TRT` (its README, "Process Description").
EFFICIENT_NMS_CANDIDATES = 4096


@dataclass(frozen=True)
class NmsRule:
    """What a suppression promises, per image.

    `cap` is the largest number of detections. `best_class` gives each row its best class only; otherwise
    every (row, class) pair is a candidate. `class_agnostic` lets classes suppress each other. `prefilter` is
    the number of best scores that enter the suppression at all (None: all). On the thresholds themselves: by
    default a score must exceed its threshold and an IoU must exceed its own to suppress; with `inclusive`
    both are "at least".
    """

    iou_threshold: float
    score_threshold: float
    cap: int
    best_class: bool
    class_agnostic: bool = False
    prefilter: Optional[int] = None
    inclusive: bool = False

    def passes(self, scores: Floats) -> npt.NDArray[np.bool_]:
        """Which scores make a candidate."""
        return scores >= self.score_threshold if self.inclusive else scores > self.score_threshold

    def suppresses(self, overlaps: Floats) -> npt.NDArray[np.bool_]:
        """Which IoUs with a retained box suppress."""
        return overlaps >= self.iou_threshold if self.inclusive else overlaps > self.iou_threshold


def end2end_ort_rule(iou_threshold: float, score_threshold: float, cap: int, class_agnostic: bool) -> NmsRule:
    """The promise of `end2end-ort`: one class a row, strict thresholds, `cap` per image.

    Source: ONNX operator `NonMaxSuppression` and the layout of that variant (one pseudo-class per image).
    """
    return NmsRule(iou_threshold, score_threshold, cap, best_class=True, class_agnostic=class_agnostic)


def end2end_trt_rule(iou_threshold: float, score_threshold: float, cap: int, class_agnostic: bool = False) -> NmsRule:
    """The promise of `end2end-trt`: every (row, class) pair, the plugin's candidate limit, `cap` per image.

    Source: README of `EfficientNMS_TRT`; see `efficient_nms` for what is exactly on a threshold.
    """
    return NmsRule(
        iou_threshold,
        score_threshold,
        cap,
        best_class=False,
        class_agnostic=class_agnostic,
        prefilter=EFFICIENT_NMS_CANDIDATES,
        inclusive=True,
    )


def end2end_trt_nms_rule(iou_threshold: float, score_threshold: float, cap: int) -> NmsRule:
    """The promise of `end2end-trt-nms`: as the plugin's, by the ONNX operator: strict thresholds, every candidate enters."""
    return NmsRule(iou_threshold, score_threshold, cap, best_class=False)


@dataclass(frozen=True, eq=False)
class Candidates:
    """Scored boxes of one image: rows (K,) int64 of the predictions, boxes (K, 4) corners in pixels,
    scores (K,) and classes (K,) int64."""

    rows: Ints
    boxes: Floats
    scores: Floats
    classes: Ints

    def __len__(self) -> int:
        return len(self.rows)

    def take(self, chosen: npt.NDArray[np.generic]) -> Candidates:
        """The candidates at these indices, or where this mask is true."""
        return Candidates(self.rows[chosen], self.boxes[chosen], self.scores[chosen], self.classes[chosen])


def class_scores(predictions: Floats) -> Floats:
    """Score (rows, nc) of every class of every row: objectness * class score, or the objectness if nc is
    1."""
    objectness = predictions[:, 4:5]
    return objectness if predictions.shape[1] == 6 else objectness * predictions[:, 5:]


def candidates(predictions: npt.ArrayLike, rule: NmsRule) -> Candidates:
    """The candidates of one image, predictions (rows, 5 + nc), in the order of rows, then of classes.

    A row's best class is the first of its largest class scores. Raises InputError for another shape.
    """
    values = decoded(predictions, ndim=2)
    scores = class_scores(values)
    finite = np.asarray(np.isfinite(values).all(axis=1))
    chosen = rule.passes(scores) & finite[:, None]
    if rule.best_class:
        best = values[:, 5:].argmax(axis=1)
        chosen &= best[:, None] == np.arange(scores.shape[1])
    rows, classes = np.nonzero(chosen)
    return Candidates(rows, corners(values[rows, :4]), scores[rows, classes], classes)


def greedy(found: Candidates, rule: NmsRule) -> Ints:
    """Indices of the candidates retained, best score first; equal scores in the order given.

    The best candidate left is retained and removes those it suppresses (of its class, unless class-agnostic),
    until none is left or the cap is reached.
    """
    order = np.argsort(-found.scores, kind="stable")[: rule.prefilter]
    alive = np.ones(len(found), dtype=bool)
    retained: List[int] = []
    for index in order:
        if len(retained) == rule.cap:
            break
        if not alive[index]:
            continue
        retained.append(int(index))
        rivals = np.nonzero(alive & (rule.class_agnostic | (found.classes == found.classes[index])))[0]
        alive[rivals[rule.suppresses(iou(found.boxes[index], found.boxes[rivals]))]] = False
    return np.array(retained, dtype=np.int64)


def end2end_ort(predictions: npt.ArrayLike, rule: NmsRule) -> Floats:
    """The output of an `end2end-ort` export: (n, 7) rows image, x1, y1, x2, y2, class, score.

    Predictions (batch, rows, 5 + nc); images ascend, scores descend within an image. Raises InputError for
    another shape.
    """
    images = []
    for image, values in enumerate(decoded(predictions, ndim=3)):
        found = candidates(values, rule)
        retained = found.take(greedy(found, rule))
        images.append(
            np.column_stack([np.full(len(retained), image), retained.boxes, retained.classes, retained.scores]).reshape(
                -1, 7
            )
        )
    return np.concatenate(images) if images else np.zeros((0, 7))


def efficient_nms(
    boxes: npt.ArrayLike,
    scores: npt.ArrayLike,
    *,
    score_threshold: float,
    iou_threshold: float,
    max_output_boxes: int,
    background_class: int,
    score_activation: int,
    box_coding: int,
    class_agnostic: int = 0,
) -> Tuple[npt.NDArray[np.int32], Floats, Floats, npt.NDArray[np.int32]]:
    """The outputs of the TensorRT plugin `EfficientNMS_TRT`; the keywords are its attributes.

    boxes (batch, N, 4), box_coding 0 corners or 1 centre and size; scores (batch, N, C), logits where
    score_activation is set. Returns num_dets (batch, 1), boxes (batch, cap, 4) as corners, scores (batch,
    cap) and classes (batch, cap), zero past num_dets. Raises InputError for other shapes or codings.

    Source: the plugin's README (every (box, class) pair but those of background_class is a candidate, the
    4096 best enter, suppression within a class, the cap is per image) and, where the README states nothing, its
    published kernels, read and not run: a score equal to the threshold stays; an IoU equal to the threshold
    suppresses, though the README says "above"; the order of equal scores is left to atomics (here: box, then
    class). Not modelled: for a score threshold under 0.007 the kernels rank entries below the threshold last
    instead of dropping them, so these can fill free slots with a score of -32768.
    """
    box_values, score_values = _batched(boxes, scores)
    if box_values.shape[1] != score_values.shape[1]:
        raise InputError(f"{box_values.shape[1]} boxes do not match {score_values.shape[1]} rows of scores")
    if box_coding not in (0, 1):
        raise InputError(f"box_coding must be 0 (corners) or 1 (centre and size), not {box_coding}")
    rule = end2end_trt_rule(iou_threshold, score_threshold, max_output_boxes, bool(class_agnostic))
    if box_coding == 1:
        box_values = corners(box_values)
    if score_activation:
        score_values = (1 + np.tanh(score_values / 2)) / 2  # the logistic function, without overflow

    batch, _, classes = score_values.shape
    num_dets = np.zeros((batch, 1), dtype=np.int32)
    det_boxes = np.zeros((batch, max_output_boxes, 4))
    det_scores = np.zeros((batch, max_output_boxes))
    det_classes = np.zeros((batch, max_output_boxes), dtype=np.int32)
    for image in range(batch):
        usable = np.isfinite(box_values[image]).all(axis=1)[:, None] & (np.arange(classes) != background_class)
        rows, labels = np.nonzero(rule.passes(score_values[image]) & usable)
        found = Candidates(rows, box_values[image][rows], score_values[image][rows, labels], labels)
        retained = found.take(greedy(found, rule))
        count = len(retained)
        num_dets[image] = count
        det_boxes[image, :count] = retained.boxes
        det_scores[image, :count] = retained.scores
        det_classes[image, :count] = retained.classes
    return num_dets, det_boxes, det_scores, det_classes


def onnx_nms(
    boxes: npt.ArrayLike,
    scores: npt.ArrayLike,
    max_output_boxes_per_class: int = 0,
    iou_threshold: float = 0.0,
    score_threshold: Optional[float] = None,
    center_point_box: int = 0,
) -> Ints:
    """What ONNX `NonMaxSuppression` (opset 10 and 11) selects: (n, 3) rows batch, class, box.

    boxes (batch, N, 4), any diagonal pair of corners or, with center_point_box 1, centre and size; scores
    (batch, classes, N). Defaults are those of missing inputs: no cap means no box, no score threshold means
    no filter. Raises InputError for other shapes.

    Source: the operator's text. It says that scores "less than" the threshold are removed; ONNX Runtime and
    the reference evaluator keep only what is strictly greater, as here. The order of the result is not
    specified: here batch, then class, then score descending, lower box index first on ties, as both of them
    do.
    """
    box_values, score_values = _batched(boxes, scores)
    if box_values.shape[1] != score_values.shape[2]:
        raise InputError(f"{box_values.shape[1]} boxes do not match {score_values.shape[2]} scores per class")
    if center_point_box == 1:
        box_values = corners(box_values)
    floor = -np.inf if score_threshold is None else score_threshold
    rule = NmsRule(iou_threshold, floor, max(max_output_boxes_per_class, 0), best_class=False)

    selected: List[Tuple[int, int, int]] = []
    for image, label in np.ndindex(score_values.shape[:2]):
        passing = np.nonzero(rule.passes(score_values[image, label]))[0]
        found = Candidates(
            passing,
            box_values[image][passing],
            score_values[image, label][passing],
            np.full(len(passing), label),
        )
        selected += [(image, label, int(row)) for row in found.rows[greedy(found, rule)]]
    return np.array(selected, dtype=np.int64).reshape(-1, 3)


def decoded(predictions: npt.ArrayLike, ndim: int) -> Floats:
    """Predictions as float64; InputError unless they have `ndim` axes, the last of 5 + nc columns, nc at
    least 1."""
    values = np.asarray(predictions, dtype=np.float64)
    if values.ndim != ndim or values.shape[-1] < 6:
        expected = "(rows, 5 + nc)" if ndim == 2 else "(batch, rows, 5 + nc)"
        raise InputError(f"predictions must have shape {expected} with at least one class, not {values.shape}")
    return values


def _batched(boxes: npt.ArrayLike, scores: npt.ArrayLike) -> Tuple[Floats, Floats]:
    """Boxes (batch, N, 4) and three-axis scores of the same batch as float64, else InputError."""
    box_values, score_values = np.asarray(boxes, dtype=np.float64), np.asarray(scores, dtype=np.float64)
    if box_values.ndim != 3 or box_values.shape[2] != 4:
        raise InputError(f"boxes must have shape (batch, N, 4), not {box_values.shape}")
    if score_values.ndim != 3 or len(score_values) != len(box_values):
        raise InputError(f"scores of {len(box_values)} images must have three axes, not shape {score_values.shape}")
    return box_values, score_values
