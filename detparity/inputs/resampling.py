"""Pictures of another size: each way of resampling as two matrices, one an axis, in float32 and without rounding.

Sampling points are half-pixel centred: target pixel i reads the source at (i + 0.5) * source / target - 0.5. OpenCV and torch
(`align_corners=False`) read as many neighbours when they shrink as when they enlarge; Pillow and torch with `antialias=True` widen the
kernel by the factor they shrink by. Coefficients: OpenCV's and torch's cubic has a = -0.75, Pillow's and torch's antialiased a = -0.5.
"""

from __future__ import annotations

import functools
from dataclasses import dataclass
from typing import Callable, Mapping, Tuple

import numpy as np

Kernel = Callable[[np.ndarray], np.ndarray]


def _linear(x: np.ndarray) -> np.ndarray:
    return np.clip(1.0 - np.abs(x), 0.0, None)


def _cubic(x: np.ndarray, a: float) -> np.ndarray:
    """Keys, Cubic convolution interpolation for digital image processing, 1981."""
    x = np.abs(x)
    near = ((a + 2) * x - (a + 3)) * x * x + 1
    far = ((a * x - 5 * a) * x + 8 * a) * x - 4 * a
    return np.where(x < 1, near, np.where(x < 2, far, 0.0))


def _lanczos(x: np.ndarray) -> np.ndarray:
    return np.where(np.abs(x) < 3, np.sinc(x) * np.sinc(x / 3), 0.0)


@dataclass(frozen=True)
class Resampling:
    """kernel, half its width in pixels; widened: by the factor it shrinks by; clipped: to 0..255 between the axes."""

    kernel: Kernel
    support: int
    widened: bool = False
    clipped: bool = False


KERNELS: Mapping[str, Resampling] = {
    "bilinear": Resampling(_linear, 1),
    "bilinear, antialiased": Resampling(_linear, 1, True),
    "bicubic": Resampling(functools.partial(_cubic, a=-0.75), 2),
    "bicubic, antialiased (Pillow)": Resampling(functools.partial(_cubic, a=-0.5), 2, True, True),
    "bicubic, antialiased (torch)": Resampling(functools.partial(_cubic, a=-0.5), 2, True),
    "Lanczos (Pillow)": Resampling(_lanczos, 3, True, True),
}
# Which source pixel a target pixel is. Half-way between two of them libraries differ by their rounding errors.
NEARESTS: Mapping[str, Callable[[int, float], np.ndarray]] = {
    "nearest (OpenCV)": lambda target, step: np.arange(target) * step,
    "nearest (torch)": lambda target, step: np.arange(target, dtype=np.float32) * np.float32(step),
    "nearest to the centre (Pillow)": lambda target, step: np.cumsum([0.5 * step, *[step] * (target - 1)]),
    "nearest to the centre (torch)": lambda target, step: (
        (np.arange(target, dtype=np.float32) + np.float32(0.5)) * np.float32(step)
    ),
}
AREA, POOLING = "area", "average pooling"
RESAMPLINGS = (*KERNELS, AREA, POOLING, *NEARESTS)


def resample(picture: np.ndarray, size: Tuple[int, int], how: str, height_first: bool = False) -> np.ndarray:
    """(h, w, channels) levels of 0..255 to (height, width, channels) float32, not rounded, and not clipped at the end. how: one of
    RESAMPLINGS. height_first: which axis, where the order shows because levels are clipped between them."""
    if height_first:
        return resample(picture.transpose(1, 0, 2), (size[1], size[0]), how).transpose(1, 0, 2)
    height, width = size
    found = picture.astype(np.float32)
    if found.shape[1] != width:
        found = _along_rows(found.transpose(1, 0, 2), width, how).transpose(1, 0, 2)
        found = np.clip(found, 0.0, 255.0) if clips(how) else found
    if found.shape[0] != height:
        found = _along_rows(found, height, how)
    return np.ascontiguousarray(found)


def clips(how: str) -> bool:
    """Whether levels are clipped to 0..255 after the first axis. Pillow does; which axis comes first depends on its version."""
    return how in KERNELS and KERNELS[how].clipped


def rounding(source: Tuple[int, int], size: Tuple[int, int], how: str) -> float:
    """How far off a picture is, at most, whose levels are rounded to whole ones after each axis."""
    return 0.5 + 0.5 * max(float(np.abs(_matrix(a, b, how)).sum(1).max()) for a, b in zip(source, size))


def _along_rows(levels: np.ndarray, target: int, how: str) -> np.ndarray:
    rows, columns, channels = levels.shape
    flat = np.ascontiguousarray(levels).reshape(rows, columns * channels)
    return np.asarray(_matrix(rows, target, how) @ flat).reshape(target, columns, channels)


@functools.lru_cache(maxsize=64)
def _matrix(source: int, target: int, how: str) -> np.ndarray:
    """(target, source) float32, whose rows add up to 1."""
    step = source / target
    found = np.zeros((target, source))
    if how in NEARESTS:
        found[np.arange(target), np.minimum(NEARESTS[how](target, step).astype(int), source - 1)] = 1.0
    elif how == AREA:  # OpenCV's: a source pixel counts by the part of it that is covered
        found = _coverage(np.arange(target) * step, np.arange(1, target + 1) * step, source)
    elif how == POOLING:  # torch's: every source pixel that is touched counts as a whole one
        begin, end = np.arange(target) * source // target, -(-np.arange(1, target + 1) * source // target)
        found = _coverage(begin, end, source)
    else:
        one = KERNELS[how]
        wide = max(step, 1.0) if one.widened else 1.0
        reach = int(np.ceil(one.support * wide)) + 1
        centres = (np.arange(target) + 0.5) * step - 0.5
        index = np.floor(centres).astype(int)[:, None] + np.arange(-reach, reach + 1)
        values = one.kernel((index - centres[:, None]) / wide)
        if one.widened:  # what lies outside the picture is left out; without widening, its border goes on
            values = np.where((index >= 0) & (index < source), values, 0.0)
        np.add.at(found, (np.arange(target)[:, None], np.clip(index, 0, source - 1)), values)
    return np.asarray(found / found.sum(1, keepdims=True), np.float32)


def _coverage(begin: np.ndarray, end: np.ndarray, source: int) -> np.ndarray:
    """How much of each source pixel each target pixel covers, in pixels."""
    pixels = np.arange(source)
    return np.clip(np.minimum(end[:, None], pixels + 1) - np.maximum(begin[:, None], pixels), 0.0, None)
