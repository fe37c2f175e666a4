"""Whether a class offset keeps the classes of `end2end-ort` apart, decided from what the head can decode.

That variant runs one class-blind suppression over boxes shifted by class * max_wh pixels in x and y. Boxes of
two classes must then never overlap beyond the IoU threshold, unless max_wh is 0, which means
class-agnostic suppression. Sample images cannot decide this; the head's range can.

The range: a centre lies within half a stride of the image, [-stride / 2, side + stride / 2] per axis (2 *
sigmoid - 0.5 + cell), and a side is at most four anchors ((2 * sigmoid) ** 2 * anchor). The ends count:
float32 sigmoids reach 0 and 1.

Where the worst pair lies. Classes k and k + 1 are the closest, and a box of class k at the far corner of the
image comes closest to one of class k + 1 at the near corner: with fixed sizes, IoU only falls with the
distance of the shifted centres, so per axis the distance is e = max(0, max_wh - (side + (stride_a + stride_b)
/ 2)). It also follows that the worst IoU never rises with max_wh. Sizes: maximal IoU is minimal (area_a +
area_b) / intersection. Seen along one axis, with the sides along the other axis fixed, that is (r a + s b) /
overlap for side lengths a <= A and b <= B and constants r and s. While neither interval contains the other,
|a - b| <= 2 e, the overlap is (a + b) / 2 - e; beyond that, shortening the longer side only helps. A ratio of
linear functions over a polygon is extreme at a vertex, and the vertices with an overlap are: both sides at
their limits (if those differ by no more than 2 e), or one side at its limit or the other's as long as the
limits allow with a - b = 2 e, or with b - a = 2 e. So nine combinations of two axes decide each pair of
anchors.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Dict, Optional, Tuple

import numpy as np
import numpy.typing as npt

from detparity.core.errors import InputError
from detparity.oracle.boxes import Floats, corners, iou

# The coarsest grid on which shifted coordinates may lie, in pixels.
SPACING_LIMIT = 0.25

Box = Tuple[float, float, float, float]


@dataclass(frozen=True, eq=False)
class HeadRange:
    """What decides where a head can put boxes: anchors (levels, anchors, 2) width and height in pixels,
    strides (levels,) in pixels, image_size (height, width) in pixels, number of classes.

    Of several promised sizes the largest decides: a larger image never makes an offset safer. Raises
    InputError where these do not fit together.
    """

    anchors: npt.ArrayLike
    strides: npt.ArrayLike
    image_size: Tuple[int, int]
    classes: int

    def __post_init__(self) -> None:
        anchors, strides = (
            np.asarray(self.anchors, dtype=np.float64),
            np.asarray(self.strides, dtype=np.float64),
        )
        if anchors.ndim != 3 or anchors.shape[2] != 2 or strides.shape != anchors.shape[:1] or anchors.size == 0:
            raise InputError(
                f"anchors of shape {anchors.shape} and strides of shape {strides.shape} are not a head: "
                "(levels, anchors, 2) and (levels,) are needed"
            )
        numbers = np.concatenate([anchors.ravel(), strides, np.asarray(self.image_size, dtype=np.float64)])
        if not (np.isfinite(numbers).all() and (numbers > 0).all()):
            raise InputError("anchors, strides and image size must be positive and finite")
        if self.classes < 1:
            raise InputError(f"a head has at least one class, not {self.classes}")


@dataclass(frozen=True)
class WorstPair:
    """Two boxes (x1, y1, x2, y2 before the shift, pixels) of classes k and k + 1 and their IoU after it;
    level and anchor index of each."""

    lower_class: Box
    upper_class: Box
    iou: float
    lower_anchor: Tuple[int, int]
    upper_anchor: Tuple[int, int]


@dataclass(frozen=True)
class OffsetBreach:
    """Why an offset does not serve: kind 'collision' or 'spacing', one sentence, facts; the worst pair for
    the former; the smallest offset that serves, None if there is none."""

    kind: str
    sentence: str
    facts: Dict[str, object]
    pair: Optional[WorstPair]
    smallest_safe: Optional[int]


def worst_pair(head: HeadRange, max_wh: float) -> Optional[WorstPair]:
    """The decodable boxes of neighbouring classes that overlap most after the shift; None with a single
    class.

    Where nothing can overlap, some pair with IoU 0 is returned.
    """
    if head.classes == 1:
        return None
    strides, limits = _anchor_limits(head)
    height, width = head.image_size
    reach = (strides[:, None] + strides[None, :]) / 2
    # Axis 0 runs over the vertices, 1 and 2 over pairs of anchors.
    widths = _vertices(limits[:, 0], np.maximum(0.0, max_wh - width - reach))
    heights = _vertices(limits[:, 1], np.maximum(0.0, max_wh - height - reach))
    overlaps = widths.overlap[:, None] * heights.overlap[None]
    areas = widths.first[:, None] * heights.first[None] + widths.second[:, None] * heights.second[None]
    union = areas - overlaps
    value = np.divide(overlaps, union, out=np.zeros_like(overlaps), where=(overlaps > 0) & (union > 0))

    in_x, in_y, a, b = np.unravel_index(int(value.argmax()), value.shape)
    centres_x = _centres(width, strides[a], strides[b], max_wh)
    centres_y = _centres(height, strides[a], strides[b], max_wh)
    lower = corners([centres_x[0], centres_y[0], widths.first[in_x, a, b], heights.first[in_y, a, b]])
    upper = corners([centres_x[1], centres_y[1], widths.second[in_x, a, b], heights.second[in_y, a, b]])
    per_level = np.asarray(head.anchors).shape[1]
    return WorstPair(
        lower_class=_box(lower),
        upper_class=_box(upper),
        iou=float(iou(lower, upper + max_wh)),
        lower_anchor=(int(a) // per_level, int(a) % per_level),
        upper_anchor=(int(b) // per_level, int(b) % per_level),
    )


def largest_coordinate(head: HeadRange, max_wh: float) -> float:
    """The largest coordinate in pixels that a box of the last class can have after the shift."""
    strides, limits = _anchor_limits(head)
    height, width = head.image_size
    reach = np.maximum(width + limits[:, 0] / 2, height + limits[:, 1] / 2) + strides / 2
    return float((head.classes - 1) * max_wh + reach.max())


def float32_spacing(head: HeadRange, max_wh: float) -> float:
    """Distance in pixels between neighbouring float32 numbers at the largest shifted coordinate."""
    return float(np.spacing(np.float32(largest_coordinate(head, max_wh))))


def spacing_ok(head: HeadRange, max_wh: float) -> bool:
    """Whether shifted coordinates of the last class still lie on a grid of SPACING_LIMIT pixels or finer."""
    return float32_spacing(head, max_wh) <= SPACING_LIMIT


def iou_slack(head: HeadRange, max_wh: float) -> float:
    """Pixels by which a shift in float32 moves a coordinate at most: half a spacing of the sum, which
    bounds the rounding of an integer class * max_wh (exact below 2**24) added to a coordinate. What
    the certificate of a legal offset takes as `Tolerance.iou_slack`."""
    return float32_spacing(head, max_wh) / 2


def smallest_safe(head: HeadRange, iou_threshold: float) -> Optional[int]:
    """The smallest integer offset, at least 1, at which no decodable pair of neighbouring classes has an IoU
    over the threshold; None if float32 is too coarse there (`spacing_ok`), since a larger offset is
    coarser still."""
    if head.classes == 1:
        return 1
    _, limits = _anchor_limits(head)
    strides = np.asarray(head.strides, dtype=np.float64)
    low, high = 1, math.ceil(max(head.image_size) + strides.max() + limits.max()) + 1
    while low < high:
        middle = (low + high) // 2
        if _collides(head, middle, iou_threshold):
            low = middle + 1
        else:
            high = middle
    return low if spacing_ok(head, low) else None


def judge(head: HeadRange, max_wh: float, iou_threshold: float) -> Optional[OffsetBreach]:
    """Why this offset does not keep the classes apart, or None where it does.

    Nothing is judged with one class, nor for max_wh 0, which promises class-agnostic suppression. Raises
    InputError for a negative or non-finite max_wh.
    """
    if not (math.isfinite(max_wh) and max_wh >= 0):
        raise InputError(f"max_wh must be a finite number of pixels, 0 or more, not {max_wh}")
    pair = worst_pair(head, max_wh)
    if pair is None or max_wh == 0:
        return None
    safe = smallest_safe(head, iou_threshold)
    none = "no offset keeps these classes apart in float32"
    advice = none if safe is None else f"the smallest safe offset is {safe}"
    facts: Dict[str, object] = {"max_wh": max_wh, "smallest_safe": safe, "image_size": head.image_size}
    if pair.iou > iou_threshold:
        facts.update(
            iou=pair.iou,
            iou_threshold=iou_threshold,
            lower_class=pair.lower_class,
            upper_class=pair.upper_class,
            lower_anchor=pair.lower_anchor,
            upper_anchor=pair.upper_anchor,
        )
        sentence = (
            f"A class offset of {max_wh:g} px lets neighbouring classes suppress each other: "
            f"{_show(pair.lower_class)} of class k and {_show(pair.upper_class)} of class k + 1 overlap with "
            f"IoU {pair.iou:.3f} after the shift, over the threshold {iou_threshold:g}; {advice}."
        )
        return OffsetBreach("collision", sentence, facts, pair, safe)
    if not spacing_ok(head, max_wh):
        spacing, largest = float32_spacing(head, max_wh), largest_coordinate(head, max_wh)
        facts.update(spacing=spacing, spacing_limit=SPACING_LIMIT, largest_coordinate=largest)
        sentence = (
            f"A class offset of {max_wh:g} px shifts the last class to {largest:.0f} px, where float32 "
            f"numbers lie {spacing:g} px apart, more than {SPACING_LIMIT:g}; {advice}."
        )
        return OffsetBreach("spacing", sentence, facts, None, safe)
    return None


@dataclass(frozen=True, eq=False)
class _Sides:
    """Along one axis, the sides of both boxes and their overlap; arrays (vertices, n, n)."""

    first: Floats
    second: Floats
    overlap: Floats


def _vertices(limits: Floats, apart: Floats) -> _Sides:
    """The three vertices of the module's argument for sides up to limits (n,) and centres (n, n) apart."""
    limit_a, limit_b = np.broadcast_arrays(limits[:, None], limits[None, :])
    first_longer = np.minimum(limit_a, limit_b + 2 * apart)
    second_longer = np.minimum(limit_b, limit_a + 2 * apart)
    # The first vertex exists only while neither contains the other; elsewhere it is a worse, still decodable
    # choice.
    first = np.stack([limit_a, first_longer, second_longer - 2 * apart])
    second = np.stack([limit_b, first_longer - 2 * apart, second_longer])
    inside = np.minimum(np.minimum(first, second), (first + second) / 2 - apart)
    return _Sides(np.maximum(first, 0.0), np.maximum(second, 0.0), np.maximum(inside, 0.0))


def _centres(side: float, stride_a: float, stride_b: float, max_wh: float) -> Tuple[float, float]:
    """Centres along one axis, of class k and of class k + 1, that are closest to each other after the
    shift."""
    upper = max(-stride_b / 2, -stride_a / 2 - max_wh)
    return min(upper + max_wh, side + stride_a / 2), upper


def _anchor_limits(head: HeadRange) -> Tuple[Floats, Floats]:
    """Of every anchor, levels first: stride (n,) and largest width and height (n, 2)."""
    anchors = np.asarray(head.anchors, dtype=np.float64)
    strides = np.repeat(np.asarray(head.strides, dtype=np.float64), anchors.shape[1])
    return strides, 4 * anchors.reshape(-1, 2)


def _collides(head: HeadRange, max_wh: float, iou_threshold: float) -> bool:
    pair = worst_pair(head, max_wh)
    return pair is not None and pair.iou > iou_threshold


def _box(values: Floats) -> Box:
    x1, y1, x2, y2 = (float(value) for value in values)
    return x1, y1, x2, y2


def _show(box: Box) -> str:
    return "[" + " ".join(f"{value:.1f}" for value in box) + "]"
