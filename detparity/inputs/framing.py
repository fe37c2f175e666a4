"""Where a picture of any size goes in a detector's input: letterbox, stretched, cropped, to the pixel.

The reference is the letterbox of the YOLO families: the picture is scaled by r = min(H / h, W / w), its sides are rounded to
the nearest pixel (half to even), and what is left over is padding on both sides: above and left round(rest / 2 - 0.1)
pixels, so that of an odd rest the larger part is below and to the right.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Tuple

import numpy as np

from detparity.inputs.resampling import resample

LETTERBOX, CORNER, CORNER_CUT, NOT_ENLARGED, STRETCH, CROP = FRAMINGS = (
    "letterbox",
    "letterbox at the top left",
    "letterbox at the top left, sides rounded down",
    "letterbox, not enlarged",
    "stretch",
    "crop of the centre",
)
PADDING = 114  # grey level of the YOLO families, of 255


@dataclass(frozen=True)
class Frame:
    """size: (height, width) the picture is resampled to, in pixels; top, left: where it begins in the input, or, where they
    are negative, what is cut off."""

    size: Tuple[int, int]
    top: int = 0
    left: int = 0


def frame(source: Tuple[int, int], target: Tuple[int, int], how: str = LETTERBOX) -> Frame:
    """The frame of a picture (height, width) in an input of `target` pixels. how: one of FRAMINGS."""
    (h, w), (height, width) = source, target
    if how == STRETCH:
        return Frame(target)
    ratio = max(height / h, width / w) if how == CROP else min(height / h, width / w)
    if how == NOT_ENLARGED:
        ratio = min(ratio, 1.0)
    rounded = int if how == CORNER_CUT else round
    tall, wide = max(rounded(h * ratio), 1), max(rounded(w * ratio), 1)
    if how == CROP:
        return Frame((tall, wide), -round((tall - height) / 2), -round((wide - width) / 2))
    if how in (CORNER, CORNER_CUT):
        return Frame((tall, wide))
    return Frame((tall, wide), round((height - tall) / 2 - 0.1), round((width - wide) / 2 - 0.1))


def placed(picture: np.ndarray, target: Tuple[int, int], where: Frame, padding: float = np.nan) -> np.ndarray:
    """(h, w, 3) that has been resampled to `where.size`, in an input (height, width, 3) of which the rest is `padding`."""
    found = np.full((*target, picture.shape[2]), padding, np.float32)
    (height, width), (h, w) = target, where.size
    top, left = max(where.top, 0), max(where.left, 0)
    part = picture[max(-where.top, 0) : h, max(-where.left, 0) : w][: height - top, : width - left]
    found[top : top + part.shape[0], left : left + part.shape[1]] = part
    return found


def letterbox(picture: np.ndarray, target: Tuple[int, int], padding: float = PADDING) -> np.ndarray:
    """(h, w, 3) uint8 to (height, width, 3) uint8: the reference, bilinear and rounded to whole levels."""
    where = frame(picture.shape[:2], target)
    levels = np.rint(resample(picture, where.size, "bilinear"))
    return np.asarray(placed(levels, target, where, padding), np.uint8)
