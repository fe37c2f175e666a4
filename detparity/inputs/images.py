"""Images as arrays: every kind of picture the suite feeds to a detector. Shape (3, H, W), float32, RGB in 0..1.

All are functions of (size, seed) alone and draw from numpy's PCG64, whose streams do not change between versions.
"""

from __future__ import annotations

from typing import Callable, Dict, List, Mapping, Sequence, Tuple

import numpy as np

from detparity.core.vocabulary import Picture, Size
from detparity.inputs import scenes


def _finish(image: np.ndarray) -> np.ndarray:
    return np.ascontiguousarray(np.clip(image, 0.0, 1.0), dtype=np.float32)


def noise(size: Size, seed: int) -> np.ndarray:
    """Independent uniform pixels: every weight matters, nothing cancels."""
    return np.random.default_rng([seed, 1]).random((3, *size), dtype=np.float32)


def black(size: Size, seed: int) -> np.ndarray:
    return np.zeros((3, *size), np.float32)


def white(size: Size, seed: int) -> np.ndarray:
    return np.ones((3, *size), np.float32)


def dark(size: Size, seed: int) -> np.ndarray:
    """A scene under 6 % of full scale: shows graphs that rescale their input by its own range."""
    return _finish(0.06 * natural(size, seed))


def low_contrast(size: Size, seed: int) -> np.ndarray:
    return _finish(0.48 + 0.04 * natural(size, seed))


def gradient(size: Size, seed: int) -> np.ndarray:
    """Ramps along x, y and both, one per channel: no symmetry survives, so transposed axes show."""
    y, x = np.meshgrid(np.linspace(0, 1, size[0]), np.linspace(0, 1, size[1]), indexing="ij")
    return _finish(np.stack([x, y, 0.25 + 0.5 * x * y]))


def single_channel(size: Size, seed: int) -> np.ndarray:
    """One channel carries the scene, two are zero: swapped channels show."""
    image = np.zeros((3, *size), np.float32)
    image[seed % 3] = natural(size, seed)[seed % 3]
    return image


def checkerboard(size: Size, seed: int) -> np.ndarray:
    """Squares of 1 to 16 pixels, by seed: the highest frequencies resampling and strides can meet."""
    side = 1 << (seed % 5)
    y, x = np.indices(size)
    board = ((y // side + x // side) % 2).astype(np.float32)
    return _finish(np.stack([board, 1 - board, 0.5 * board + 0.25]))


def natural(size: Size, seed: int) -> np.ndarray:
    """A scene with real structure: a 1/f background and a dozen shaded, textured, overlapping shapes."""
    rng = np.random.default_rng([seed, 2])
    fy, fx = np.meshgrid(np.fft.fftfreq(size[0]), np.fft.rfftfreq(size[1]), indexing="ij")
    radius = np.sqrt(fy**2 + fx**2)
    radius[0, 0] = 1.0
    spectrum = np.fft.rfft2(rng.standard_normal((3, *size))) / radius
    spectrum[:, 0, 0] = 0.0
    background = np.fft.irfft2(spectrum, s=size)
    image = 0.5 + 0.18 * background / (background.std() + 1e-12)
    ys, xs = np.indices(size)
    for _ in range(12):
        cy, cx = rng.uniform(0, size[0]), rng.uniform(0, size[1])
        half_h, half_w = rng.uniform(0.03, 0.25, 2) * size
        rows = slice(max(int(cy - half_h) - 1, 0), int(cy + half_h) + 2)
        columns = slice(max(int(cx - half_w) - 1, 0), int(cx + half_w) + 2)
        y, x = ys[rows, columns], xs[rows, columns]
        dy, dx = (y - cy) / half_h, (x - cx) / half_w
        inside = (dy**2 + dx**2 < 1) if rng.random() < 0.5 else (np.abs(dy) < 1) & (np.abs(dx) < 1)
        shade = 0.75 + 0.25 * np.sin(rng.uniform(0.05, 0.9) * (x * rng.uniform(-1, 1) + y))
        colour = rng.random(3)[:, None, None]
        image[:, rows, columns] = np.where(inside, colour * shade, image[:, rows, columns])
    return _finish(image)


def scene(size: Size, seed: int) -> np.ndarray:
    """Objects of the bundled detector's classes, which give real detections and real near ties."""
    return scenes.scene(size, seed).image


def mosaic(size: Size, seed: int) -> np.ndarray:
    """Six kinds in two rows of one picture, those that need not fill it to show what they show."""
    image = np.empty((3, *size), np.float32)
    rows = ((gradient, scene, single_channel), (checkerboard, natural, low_contrast))
    for strip, row in zip(np.array_split(image, len(rows), axis=1), rows):
        for part, make_one in zip(np.array_split(strip, len(row), axis=2), row):
            part[...] = make_one((part.shape[1], part.shape[2]), seed)
    return image


KINDS: Mapping[str, Callable[[Size, int], np.ndarray]] = {
    "noise": noise,
    "natural": natural,
    "scene": scene,
    "black": black,
    "white": white,
    "dark": dark,
    "low-contrast": low_contrast,
    "gradient": gradient,
    "single-channel": single_channel,
    "checkerboard": checkerboard,
    "mosaic": mosaic,
}
# All that the other kinds show, in fewer pictures; what is decided on detections needs pictures that are full of objects.
FEW = ("noise", "mosaic", "dark", "white", "black")
OF_DETECTIONS = ("noise", "natural", "scene", *FEW[1:])
# A picture as numbers of lower precision hold it: "8-bit noise" is noise in steps of 1/255.
EIGHT_BITS = "8-bit"
ROUNDED: Mapping[str, Callable[[np.ndarray], np.ndarray]] = {
    EIGHT_BITS: lambda image: np.rint(image * np.float32(255)) / np.float32(255),
    "float16": lambda image: image.astype(np.float16).astype(np.float32),
    "bfloat16": lambda image: _bfloat16(image),
}


def _bfloat16(image: np.ndarray) -> np.ndarray:
    """Rounded to the nearest number of the upper 16 bits, ties to even."""
    bits = np.ascontiguousarray(image, np.float32).view(np.uint32)
    nearest = (bits + np.uint32(0x7FFF) + ((bits >> np.uint32(16)) & np.uint32(1))) & np.uint32(0xFFFF0000)
    return np.asarray(nearest.view(np.float32))


_ADDED: Dict[str, Callable[[Size, int], np.ndarray]] = {}
HELD = 40_000_000  # bytes of pictures that are held for the next check, 8 of 640x640
_MADE: Dict[Tuple[str, Size, int], np.ndarray] = {}


def untied(images: np.ndarray) -> np.ndarray:
    """The images with noise of 1/255, so that no two areas are the same: where they are, a selection decides by chance."""
    noise = np.random.default_rng(3).random(images.shape, dtype=np.float32)
    return np.asarray(images * np.float32(254 / 255) + noise / np.float32(255), np.float32)


def add(kind: str, made: Callable[[Size, int], np.ndarray]) -> None:
    """Make one more kind of picture known in this process; its name has no space."""
    _ADDED[kind] = made


def make(kind: str, size: Size, seed: int) -> np.ndarray:
    """Return the image of this kind, (3, H, W) float32 in 0..1. It is shared, and cannot be written to."""
    key = (kind, size, seed)
    image = _MADE.pop(key, None)
    _MADE[key] = image = _drawn(*key) if image is None else image  # the last, as the one used last
    while len(_MADE) > 1 and sum(one.nbytes for one in _MADE.values()) > HELD:
        del _MADE[next(iter(_MADE))]
    return image


def _drawn(kind: str, size: Size, seed: int) -> np.ndarray:
    rounding, _, plain = kind.rpartition(" ")
    image = (KINDS.get(plain) or _ADDED[plain])(size, seed)
    if rounding:
        image = ROUNDED[rounding](image)
    image.setflags(write=False)
    return image


def rounded(picture: Picture, rounding: str) -> Picture:
    """The same picture as `ROUNDED[rounding]` leaves it; rounding: "" for none."""
    return (f"{rounding} {picture[0]}", picture[1]) if rounding else picture


def batch_of(pictures: Sequence[Picture], size: Size) -> np.ndarray:
    """The (B, 3, H, W) float32 batch of these pictures."""
    made: List[np.ndarray] = [make(kind, size, seed) for kind, seed in pictures]
    return np.stack(made)
