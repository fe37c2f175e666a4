"""Scenes with a truth: shapes on textured backgrounds, crowded, overlapping, cut by the border. The bundled detector knows them.

A scene is a function of (size, seed) alone. It draws from PCG64 by uniform numbers only and computes with the four operations and
square roots, so it is the same picture with every numpy; machines may round the last bit of a pixel differently.
"""

from __future__ import annotations

import functools
import math
from dataclasses import dataclass
from typing import Callable, List, Mapping, Sequence, Tuple

import numpy as np

from detparity.core.vocabulary import Size

CLASSES = ("circle", "square", "triangle", "star", "cross")
STREAM = 3  # separates these draws from those of `detparity.inputs.images` with the same seed

SIDES = (16.0, 120.0)  # pixels across an object, log-uniform
LARGEST = 0.7  # of the image's shorter side
CELL = 64 * 64  # pixels of image for one object, at a density of 1
DENSITIES = (0.5, 1.7)
TRIES = 2  # positions tried for each object, as some would hide too much
VISIBLE = 0.5  # share of each object's pixels that is seen
LEAST_SIDE = 6  # pixels of what is seen, or it is no object of the truth
CONTRAST = 0.3  # least difference between an object and the background, in one channel

Planes = Sequence[Tuple[float, float, float]]  # nx, ny, d: inside where nx x + ny y < d


@dataclass(frozen=True, eq=False)
class Scene:
    """image: (3, H, W) float32, RGB in 0..1; boxes: (n, 4) float64, x1 y1 x2 y2 of the part that is seen, in pixels, inside the
    image; classes: (n,) int64, indices of `CLASSES`."""

    image: np.ndarray
    boxes: np.ndarray
    classes: np.ndarray


class _Draw:
    """Uniform numbers as Python floats: a numpy scalar would widen float32 arrays in numpy 2 and not in numpy 1."""

    def __init__(self, seed: int) -> None:
        self._rng = np.random.default_rng([seed, STREAM])

    def one(self, low: float = 0.0, high: float = 1.0) -> float:
        return low + (high - low) * float(self._rng.random())

    def ratio(self, low: float, high: float) -> float:
        """Between `low` and `high`, small ones as often as large ones: the square of a uniform number, instead of a logarithm."""
        share = self.one()
        return low + (high - low) * share * share

    def index(self, count: int) -> int:
        return int(self._rng.random() * count)

    def chance(self, share: float) -> bool:
        return bool(self._rng.random() < share)

    def colour(self) -> Tuple[float, float, float]:
        red, green, blue = self._rng.random(3).tolist()
        return red, green, blue

    def direction(self) -> Tuple[float, float]:
        """A point on the unit circle, by the rational parametrisation of a half and a sign: no sine of any library."""
        t, sign = self.one(-1.0, 1.0), 1.0 if self.chance(0.5) else -1.0
        return sign * (1 - t * t) / (1 + t * t), sign * 2 * t / (1 + t * t)

    def plane(self, *shape: int) -> np.ndarray:
        return self._rng.random(shape, dtype=np.float32)


# --- shapes: signed distance in pixels from an outline in the unit circle, negative inside

# Unit normals of a triangle's and a pentagram's edges, and their distance from the centre when the points lie on the unit circle.
_TRIANGLE: Planes = ((0.0, 1.0, 0.5), (0.8660254, -0.5, 0.5), (-0.8660254, -0.5, 0.5))
_STAR: Planes = tuple(
    (x, y, 0.3090170)
    for x, y in (
        (0.0, 1.0),
        (0.9510565, 0.3090170),
        (0.5877853, -0.8090170),
        (-0.5877853, -0.8090170),
        (-0.9510565, 0.3090170),
    )
)
_SIDE = 0.7071068  # half a square with its corners on the unit circle
_ARM, _LENGTH = 0.3, 0.95  # half the width and half the length of a cross's arms


@dataclass(frozen=True)
class _Frame:
    """The frame of an object: centre, half axes and rotation (cosine, sine)."""

    x: float
    y: float
    a: float
    b: float
    cos: float
    sin: float

    def reach(self) -> float:
        return max(self.a, self.b) + 1.5

    def plane(self, x: np.ndarray, y: np.ndarray, nx: float, ny: float, d: float) -> np.ndarray:
        """Distance from the line nx u + ny v = d of the unit frame; x (w,), y (h,) from the centre; (h, w)."""
        mx, my = nx / self.a, ny / self.b
        length = math.sqrt(mx * mx + my * my)
        gx, gy = (mx * self.cos - my * self.sin) / length, (mx * self.sin + my * self.cos) / length
        return (gx * x - d / length)[None, :] + (gy * y)[:, None]


def _inside_all(frame: _Frame, x: np.ndarray, y: np.ndarray, planes: Planes) -> np.ndarray:
    found = frame.plane(x, y, *planes[0])
    for plane in planes[1:]:
        np.maximum(found, frame.plane(x, y, *plane), out=found)
    return found


def _rectangle(frame: _Frame, x: np.ndarray, y: np.ndarray, a: float, b: float) -> np.ndarray:
    u, v = frame.plane(x, y, 1.0, 0.0, 0.0), frame.plane(x, y, 0.0, 1.0, 0.0)
    return np.maximum(np.abs(u) - a * frame.a, np.abs(v) - b * frame.b)


def _circle(frame: _Frame, x: np.ndarray, y: np.ndarray) -> np.ndarray:
    """An ellipse, to first order: its implicit function over the length of that function's gradient."""
    u = frame.plane(x, y, 1.0, 0.0, 0.0) * (1 / frame.a)
    v = frame.plane(x, y, 0.0, 1.0, 0.0) * (1 / frame.b)
    square = u * u + v * v
    gradient = (u * (1 / frame.a)) ** 2 + (v * (1 / frame.b)) ** 2
    return (square - 1.0) / (2 * np.sqrt(gradient) + 1e-6)


def _square(frame: _Frame, x: np.ndarray, y: np.ndarray) -> np.ndarray:
    return _rectangle(frame, x, y, _SIDE, _SIDE)


def _triangle(frame: _Frame, x: np.ndarray, y: np.ndarray) -> np.ndarray:
    return _inside_all(frame, x, y, _TRIANGLE)


def _star(frame: _Frame, x: np.ndarray, y: np.ndarray) -> np.ndarray:
    """A pentagram is what lies inside at least four of its five lines: the second largest distance decides."""
    first = frame.plane(x, y, *_STAR[0])
    second = np.full_like(first, -np.inf)
    for plane in _STAR[1:]:
        other = frame.plane(x, y, *plane)
        np.maximum(second, np.minimum(first, other), out=second)
        np.maximum(first, other, out=first)
    return second


def _cross(frame: _Frame, x: np.ndarray, y: np.ndarray) -> np.ndarray:
    return np.minimum(_rectangle(frame, x, y, _ARM, _LENGTH), _rectangle(frame, x, y, _LENGTH, _ARM))


SHAPES: Mapping[str, Callable[[_Frame, np.ndarray, np.ndarray], np.ndarray]] = {
    "circle": _circle,
    "square": _square,
    "triangle": _triangle,
    "star": _star,
    "cross": _cross,
}


# --- the picture


@dataclass(frozen=True, eq=False)
class _Object:
    """One object before it is painted: the part of it that lies in the picture, as rows and columns, and there the distance from
    its outline; x, y: pixels from its centre; pixels: how many it would have if all of it were in the picture."""

    label: int
    frame: _Frame
    rows: slice
    columns: slice
    x: np.ndarray
    y: np.ndarray
    distance: np.ndarray
    pixels: int


def scene(size: Size, seed: int) -> Scene:
    """Return the scene of this size (height, width in pixels) and seed. At least half of each object is seen: one that would hide
    more of itself or of another is not painted."""
    draw = _Draw(seed)
    image, base = _background(draw, size)
    owners = np.zeros(size, np.int16)  # 0 is the background, k + 1 the k-th object
    objects: List[_Object] = []
    seen, full = (
        np.array([owners.size]),
        np.zeros(1, np.int64),
    )  # pixels of the background, which may vanish, and of each object
    count = _count(draw, size)
    for _ in range(TRIES * count):
        if len(objects) == count:
            break
        frame = _new_frame(draw, size, [one.frame for one in objects])
        found = _outline(frame, draw.index(len(CLASSES)), size)
        patch, inside = owners[found.rows, found.columns], found.distance <= 0
        left = np.append(seen - np.bincount(patch[inside], minlength=len(seen)), np.count_nonzero(inside))
        if (left >= VISIBLE * np.append(full, found.pixels)).all():
            seen, full = left, np.append(full, found.pixels)
            objects.append(found)
            patch[inside] = len(objects)
            _paint(draw, image, found, base)
    _light(draw, image)
    boxes, classes = _truth(owners, objects)
    return Scene(np.clip(image, 0.0, 1.0), boxes, classes)


@functools.lru_cache(maxsize=128)
def drawn_objects(size: Size, seed: int) -> Tuple[np.ndarray, np.ndarray]:
    """Boxes and classes of the scene of this size and seed, without its image, which is drawn once for many files."""
    drawn = scene(size, seed)
    for array in (drawn.boxes, drawn.classes):
        array.flags.writeable = False  # every caller has the same arrays
    return drawn.boxes, drawn.classes


def _count(draw: _Draw, size: Size) -> int:
    return max(1, int(size[0] * size[1] / CELL * draw.one(*DENSITIES) + 0.5))


def _new_frame(draw: _Draw, size: Size, others: Sequence[_Frame]) -> _Frame:
    """A frame anywhere, or touching an earlier one; the centre lies in the image."""
    half = draw.ratio(SIDES[0], min(SIDES[1], LARGEST * min(size))) / 2
    stretch = draw.one(0.75, 1.0)
    a, b = (half, half * stretch) if draw.chance(0.5) else (half * stretch, half)
    cos, sin = draw.direction()
    if others and draw.chance(0.4):
        other = others[draw.index(len(others))]
        dx, dy = draw.direction()
        apart = draw.one(0.6, 1.1) * (half + max(other.a, other.b))
        x = min(max(other.x + apart * dx, 0.0), float(size[1]))
        y = min(max(other.y + apart * dy, 0.0), float(size[0]))
    else:
        x, y = draw.one() * size[1], draw.one() * size[0]
    return _Frame(x, y, a, b, cos, sin)


def _background(draw: _Draw, size: Size) -> Tuple[np.ndarray, Tuple[float, float, float]]:
    """(3, H, W): one colour, clouds of two sizes in a second one, perhaps stripes or tiles. Also the colour."""
    base, other = draw.colour(), draw.colour()
    mix = draw.one(0.1, 0.4) * _clouds(draw, size, 64) + draw.one(0.05, 0.25) * _clouds(draw, size, 16)
    kind = draw.index(3)
    if kind:
        mix += draw.one(0.05, 0.2) * _pattern(draw, size, both=kind == 2)
    image = np.empty((3, *size), np.float32)
    for channel in range(3):
        image[channel] = base[channel] + (other[channel] - base[channel]) * mix
    return image, base


def _clouds(draw: _Draw, size: Size, cell: int) -> np.ndarray:
    """Values on a coarse lattice, linear in between."""
    rows, columns = size[0] // cell + 2, size[1] // cell + 2
    lattice = draw.plane(rows, columns)
    (row, down), (column, across) = (_lattice(side, cell) for side in size)
    coarse = lattice[row] + (lattice[row + 1] - lattice[row]) * down[:, None]
    return coarse[:, column] + (coarse[:, column + 1] - coarse[:, column]) * across[None, :]


def _lattice(side: int, cell: int) -> Tuple[np.ndarray, np.ndarray]:
    position = (np.arange(side, dtype=np.float32) + 0.5) / cell
    index = position.astype(np.int64)
    return index, position - index.astype(np.float32)


def _pattern(draw: _Draw, size: Size, both: bool) -> np.ndarray:
    """Soft stripes along a direction; `both`: crossed by others, which makes tiles."""
    cos, sin = draw.direction()
    period = draw.one(6.0, 40.0)
    y, x = (np.arange(side, dtype=np.float32) for side in size)
    stripes = _wave((x * (cos / period))[None, :] + (y * (sin / period))[:, None])
    if both:
        stripes = stripes * _wave((y * (cos / period))[:, None] - (x * (sin / period))[None, :])
    return stripes


def _wave(phase: np.ndarray) -> np.ndarray:
    """A triangle of period 1 between 0 and 1."""
    return np.abs(2.0 * (phase - np.floor(phase)) - 1.0)


def _outline(frame: _Frame, label: int, size: Size) -> _Object:
    reach, (height, width) = frame.reach(), size
    left, top = int(np.floor(frame.x - reach)), int(np.floor(frame.y - reach))
    side = int(2 * reach) + 2
    x = np.arange(left, left + side, dtype=np.float32) + np.float32(0.5 - frame.x)
    y = np.arange(top, top + side, dtype=np.float32) + np.float32(0.5 - frame.y)
    distance = SHAPES[CLASSES[label]](frame, x, y)
    columns = slice(max(left, 0), min(left + side, width))
    rows = slice(max(top, 0), min(top + side, height))
    across, down = slice(columns.start - left, columns.stop - left), slice(rows.start - top, rows.stop - top)
    pixels = int(np.count_nonzero(distance <= 0))
    return _Object(label, frame, rows, columns, x[across], y[down], distance[down, across], pixels)


def _paint(draw: _Draw, image: np.ndarray, found: _Object, base: Sequence[float]) -> None:
    """Paint one object over what is there."""
    fill, (rim, lighter) = _fill(draw, base), _rim(draw)
    cover = np.clip(0.5 - found.distance, 0.0, 1.0)
    tone = _shade(draw, found.x, found.y, found.frame.reach())
    if rim:
        tone *= 1.0 + lighter * np.clip(found.distance + (rim + 0.5), 0.0, 1.0)
    for channel in range(3):
        below = image[channel, found.rows, found.columns]
        below += cover * (fill[channel] * tone - below)


def _fill(draw: _Draw, base: Sequence[float]) -> Tuple[float, float, float]:
    """A colour that differs clearly from the background's."""
    for _ in range(8):
        colour = draw.colour()
        if max(abs(a - b) for a, b in zip(colour, base)) > CONTRAST:
            break
    return colour


def _rim(draw: _Draw) -> Tuple[float, float]:
    """Width of the outline in pixels, 0 for none, and how much lighter it is."""
    if draw.chance(0.3):
        return 0.0, 0.0
    return draw.one(1.0, 2.5), draw.one(-0.7, -0.3) if draw.chance(0.6) else draw.one(0.3, 0.7)


def _shade(draw: _Draw, x: np.ndarray, y: np.ndarray, reach: float) -> np.ndarray:
    """A ramp over the object, and on some a texture of stripes."""
    dx, dy = draw.direction()
    slope = draw.one(0.0, 0.25) / reach
    shade = (1.0 + (slope * dx) * x)[None, :] + ((slope * dy) * y)[:, None]
    if draw.chance(0.3):
        cos, sin = draw.direction()
        period = draw.one(4.0, 14.0)
        shade *= 1.0 - draw.one(0.1, 0.4) * _wave((x * (cos / period))[None, :] + (y * (sin / period))[:, None])
    return shade


def _light(draw: _Draw, image: np.ndarray) -> None:
    """Brightness that falls off to one side, and the grain of a sensor."""
    _, height, width = image.shape
    cos, sin = draw.direction()
    level, fall = draw.one(0.6, 1.1), draw.one(0.0, 0.35)
    y = (np.arange(height, dtype=np.float32) / height - np.float32(0.5)) * (fall * sin)
    x = (np.arange(width, dtype=np.float32) / width - np.float32(0.5)) * (fall * cos)
    image *= (level + x)[None, :] + y[:, None]
    grain = draw.one(0.0, 0.12)
    image += grain * (draw.plane(*image.shape) - np.float32(0.5))


def _truth(owners: np.ndarray, objects: Sequence[_Object]) -> Tuple[np.ndarray, np.ndarray]:
    """Boxes around what is seen of each object, save those of which that is too thin."""
    boxes, classes = [], []
    for index, one in enumerate(objects):
        seen = owners[one.rows, one.columns] == index + 1
        y, x = np.nonzero(seen.any(1))[0] + one.rows.start, np.nonzero(seen.any(0))[0] + one.columns.start
        box = (x[0], y[0], x[-1] + 1, y[-1] + 1)
        if min(box[2] - box[0], box[3] - box[1]) >= LEAST_SIDE:
            boxes.append(box)
            classes.append(one.label)
    return np.array(boxes, np.float64).reshape(-1, 4), np.array(classes, np.int64)
