"""Detections drawn on their scenes, two sets side by side. What only one side has, or has elsewhere, is drawn in red."""

from __future__ import annotations

import io
from pathlib import Path
from typing import Any, Mapping, Optional, Sequence, Tuple

import numpy as np

from detparity.core.files import write_bytes
from detparity.inputs import images
from detparity.tools.golden.compare import paired
from detparity.tools.golden.pending import Pending

SAME, OTHER, PAPER = (40, 220, 60), (255, 40, 40), (255, 255, 255)
TITLE, GAP = 16, 6
LARGEST = 4096


def draw(one: Pending, target: Path) -> Optional[str]:
    """Write the picture of a pending golden as PNG. Returns why it cannot be drawn, or None."""
    try:
        from PIL import Image, ImageDraw
    except ImportError:
        return "not drawn: it needs pillow (pip install 'detparity[pictures]')"
    try:
        before, now = one.seen["before"], one.seen["now"]
        if [before[key] for key in ("pictures", "size")] != [now[key] for key in ("pictures", "size")]:
            return "not drawn: the two were taken of different scenes"
        height, width = (int(side) for side in now["size"])
        count = len(now["pictures"])
        if not (0 < height <= LARGEST and 0 < width <= LARGEST and 0 < count <= 16):
            return f"not drawn: {count} scenes of {height}x{width}"
        canvas = Image.new("RGB", (2 * width + GAP, TITLE + count * (height + GAP)), PAPER)
        pen = ImageDraw.Draw(canvas)
        for column, title in ((0, one.drawn), (1, "file now")):
            pen.text((column * (width + GAP) + 2, 2), title, fill=(0, 0, 0))
        for number, (kind, seed) in enumerate(now["pictures"]):
            scene = Image.fromarray(_pixels(images.make(str(kind), (height, width), int(seed))))
            sides = [[d for d in one["detections"] if d[0] == number] for one in (before, now)]
            lost, added, pairs = paired(*sides)
            moved = [pair for pair in pairs if not near(pair, now["tolerance"])]
            odd = ([*lost, *(was for was, _ in moved)], [*added, *(new for _, new in moved)])
            for column in (0, 1):
                corner = (column * (width + GAP), TITLE + number * (height + GAP))
                canvas.paste(scene, corner)
                for detection in sides[column]:
                    _box(pen, corner, (height, width), detection, OTHER if detection in odd[column] else SAME)
        buffer = io.BytesIO()
        canvas.save(buffer, "PNG")
    except (KeyError, TypeError, ValueError, IndexError) as error:
        return f"not drawn: the pending file does not hold what a picture needs ({type(error).__name__})"
    write_bytes(target, buffer.getvalue())
    return None


def _pixels(image: np.ndarray) -> np.ndarray:
    return np.ascontiguousarray((image.transpose(1, 2, 0) * 255 + 0.5).astype(np.uint8))


def near(pair: Tuple[Any, Any], tolerance: Mapping[str, float]) -> bool:
    was, now = pair
    shift = max(abs(x - y) for x, y in zip(was[3:], now[3:]))
    return shift <= tolerance["box"] and abs(was[2] - now[2]) <= tolerance["score"]


def _box(
    pen: Any, corner: Tuple[int, int], size: Tuple[int, int], one: Sequence[Any], colour: Tuple[int, int, int]
) -> None:
    """A box, clipped to its scene, with class and score."""
    height, width = size
    x1, x2 = sorted(float(np.clip(one[k], 0, width - 1)) + corner[0] for k in (3, 5))
    y1, y2 = sorted(float(np.clip(one[k], 0, height - 1)) + corner[1] for k in (4, 6))
    pen.rectangle((x1, y1, x2, y2), outline=colour)
    text = f"{one[1]} {one[2]:.2f}"
    left, top, right, bottom = pen.textbbox((x1 + 1, max(y1 - 11, corner[1])), text)
    pen.rectangle((left - 1, top - 1, right + 1, bottom + 1), fill=(0, 0, 0))
    pen.text((x1 + 1, max(y1 - 11, corner[1])), text, fill=colour)
