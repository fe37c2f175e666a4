"""Which combinations of framing, resampling, channel order and values make a tensor out of a picture, within rounding."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Dict, Iterator, List, Optional, Sequence, Tuple, Union

import numpy as np

from detparity.core.errors import InputError
from detparity.inputs.framing import FRAMINGS, PADDING, Frame, frame, placed
from detparity.inputs.resampling import RESAMPLINGS, clips, resample, rounding
from detparity.tools.preprocess.values import Values

RGB, BGR, BILINEAR = "RGB", "BGR", "bilinear"
AS_IT_IS = "none: the picture has that size"
EXACT = 0.02  # levels: of float32 arithmetic, and of OpenCV's fixed point beyond its rounding to whole levels
SAME = 0.005  # levels: of float32 arithmetic in another order
UNEVEN = 1000.0  # added to how far off a recipe is whose padding is not of one level
MOST_PIXELS = 64_000_000


@dataclass(frozen=True)
class Recipe:
    """One combination. resamplings: that give the same pixels of this picture; padding: the grey level in 0..255 of what the picture
    does not cover, for each channel, or none where it covers all; error: the largest difference from it, in levels of 255."""

    axes: str
    order: str
    values: Values
    framing: str
    resamplings: Tuple[str, ...]
    padding: Optional[Tuple[float, ...]]
    error: float

    @property
    def grey(self) -> str:
        """The padding for a reader."""
        if self.padding is None:
            return "none"
        levels = [f"{level:.4g}" for level in self.padding]
        if np.allclose(self.padding, [-b / a for a, b in zip(self.values.a, self.values.b)], atol=0.05) and any(
            self.values.b
        ):
            return "0, after normalising"
        return levels[0] if len(set(levels)) == 1 else f"({', '.join(levels)})"


@dataclass(frozen=True)
class Nearest:
    """Where nothing fits: the combination with the smallest typical difference, and how far off it is, in levels."""

    recipe: Recipe
    typical: float
    row: int
    column: int


@dataclass(frozen=True)
class _Canvas:
    """The picture as it lies in the input, in levels, NaN where it does not cover it; rounding: how far rounding to whole levels takes
    it."""

    framing: str
    resamplings: Tuple[str, ...]
    levels: np.ndarray
    rounding: float


def identify(
    picture: np.ndarray, tensor: np.ndarray, values: Sequence[Values]
) -> Tuple[List[Recipe], Optional[Nearest]]:
    """Every recipe that makes `tensor` (one image, with or without a batch axis) out of `picture` (h, w, 3) uint8 RGB within rounding,
    the closest first; where there is none, the nearest. Raises InputError for a tensor that is no image or a picture of one colour."""
    fitting: List[Recipe] = []
    nearest: Optional[Nearest] = None
    images = list(as_image(tensor))
    if not np.ptp(picture.reshape(-1, picture.shape[2]), axis=0).any():
        raise InputError("the picture is of one colour, which shows nothing: take another one")
    candidates = [
        (axes, one, (image - np.array(one.b, np.float32)) / np.array(one.a, np.float32), _step(tensor.dtype, one))
        for axes, image in images
        for one in _plausible(image, values)
    ]
    for canvas in _canvases(picture, [image.shape[:2] for _, image in images]):
        for axes, one, levels, step in candidates:
            if levels.shape != canvas.levels.shape:
                continue
            for order in (RGB, BGR):
                recipe = Recipe(axes, order, one, canvas.framing, canvas.resamplings, None, 0.0)
                found = _compared(levels, canvas, step, recipe)
                if isinstance(found, Recipe):
                    fitting.append(found)
                elif nearest is None or found.typical < nearest.typical:
                    nearest = found
    unique: Dict[Recipe, Recipe] = {}
    for recipe in sorted(fitting, key=lambda one: one.error):
        unique.setdefault(replace(recipe, padding=None, error=0.0), recipe)
    return list(unique.values()), None if unique else nearest


def as_image(tensor: np.ndarray) -> Iterator[Tuple[str, np.ndarray]]:
    """Each reading of a tensor as one image (height, width, 3) float32."""
    if tensor.ndim not in (3, 4) or tensor.dtype.kind not in "fiu" or not tensor.size:
        raise InputError(
            f"a tensor of {tensor.dtype} {tensor.shape} is no image: (3, H, W), (H, W, 3) or a batch of them is"
        )
    one = tensor[0] if tensor.ndim == 4 else tensor
    batch = "N" if tensor.ndim == 4 else ""
    if 3 not in (one.shape[0], one.shape[-1]):
        raise InputError(f"a tensor {tensor.shape} has no axis of 3 channels, first or last")
    if not np.isfinite(one.astype(np.float64)).all():
        raise InputError(
            f"the tensor holds {int((~np.isfinite(one.astype(np.float64))).sum())} values that are not finite"
        )
    if one.shape[0] == 3:
        yield f"{batch}CHW", np.ascontiguousarray(one.transpose(1, 2, 0), np.float32)
    if one.shape[-1] == 3:
        yield f"{batch}HWC", np.ascontiguousarray(one, np.float32)


def _plausible(image: np.ndarray, values: Sequence[Values]) -> List[Values]:
    """Those by which no value of the tensor is far outside 0..255 levels: cubic kernels overshoot by a tenth."""
    low, high = image.min((0, 1)), image.max((0, 1))
    found = []
    for one in values:
        a, b = np.array(one.a), np.array(one.b)
        if ((low - b) / a).min() > -40 and ((high - b) / a).max() < 295:
            found.append(one)
    return found or list(values)


def _canvases(picture: np.ndarray, targets: Sequence[Tuple[int, ...]]) -> Iterator[_Canvas]:
    for target in dict.fromkeys((size[0], size[1]) for size in targets):
        framings: Dict[Frame, str] = {}
        for framing in FRAMINGS:
            framings.setdefault(frame((picture.shape[0], picture.shape[1]), target, framing), framing)
        for size in dict.fromkeys(where.size for where in framings if where.size[0] * where.size[1] <= MOST_PIXELS):
            for names, levels, most in _resampled(picture, size):
                for where, framing in framings.items():
                    if where.size == size:
                        yield _Canvas(framing, names, placed(levels, target, where), most)


def _resampled(picture: np.ndarray, size: Tuple[int, int]) -> List[Tuple[Tuple[str, ...], np.ndarray, float]]:
    """Names of the resamplings that give one and the same picture, that picture, and how far rounding takes it."""
    source = (picture.shape[0], picture.shape[1])
    if source == size:
        return [((AS_IT_IS,), picture, 0.0)]
    found: List[Tuple[Tuple[str, ...], np.ndarray, float]] = []
    for how in RESAMPLINGS:
        most = rounding(source, size, how)
        for height_first in (False, True) if clips(how) else (False,):
            levels = resample(picture, size, how, height_first)
            same = next((k for k, one in enumerate(found) if np.abs(one[1] - levels).max() < SAME), None)
            if same is None:
                found.append(((how,), levels, most))
            elif how not in found[same][0]:
                found[same] = ((*found[same][0], how), found[same][1], max(most, found[same][2]))
    return found


def _step(dtype: np.dtype, values: Values) -> float:
    """A step of the tensor's own type at its largest value, in levels."""
    smallest = min(abs(a) for a in values.a)
    if dtype.kind != "f":
        return 0.5 / smallest
    largest = max(abs(a * level + b) for a, b in zip(values.a, values.b) for level in (0.0, 255.0))
    return float(np.finfo(dtype).eps * largest / smallest)


def _compared(levels: np.ndarray, canvas: _Canvas, step: float, recipe: Recipe) -> Union[Recipe, Nearest]:
    """The recipe with its error and padding where it fits; else how far off it is. A few rows decide most of them."""
    few = slice(levels.shape[0] // 32, None, max(levels.shape[0] // 16, 1))
    for rows in (few, slice(None)):
        reference = canvas.levels[rows] if recipe.order == RGB else canvas.levels[rows, :, ::-1]
        covered = ~np.isnan(reference[:, :, 0])
        found, expected = levels[rows][covered], reference[covered]
        off = np.abs(found - expected)
        clipped = np.abs(found - np.clip(expected, 0.0, 255.0))
        off = clipped if clipped.max(initial=0.0) < off.max(initial=0.0) else off
        rest = levels[rows][~covered]
        padding = np.median(rest, 0) if len(rest) else np.zeros(3)
        even = float(np.abs(rest - padding).max(initial=0.0)) <= EXACT + step
        integral = float(np.abs(found - np.rint(found)).max(initial=0.0)) <= EXACT + step
        limit = EXACT + step + (canvas.rounding if integral else 0.0)
        error = float(off.max(initial=0.0))
        recipe = replace(recipe, padding=tuple(map(float, padding)) if len(rest) else None, error=error)
        if not even or error > limit:
            worst = int(off.max(1).argmax()) if len(off) else 0
            row, column = (int(axis[worst]) if len(axis) else 0 for axis in np.nonzero(covered))
            at = (rows.start or 0) + row * (rows.step or 1)
            typical = float(off.mean()) if len(off) else float("inf")
            return Nearest(recipe, typical + (0.0 if even else UNEVEN), at, column)
    return recipe


@dataclass(frozen=True)
class Off:
    """A tensor beside the reference preprocessing of a model, in levels of 255. share: of the values that are off by more than one;
    largest: at (row, column)."""

    share: float
    mean: float
    largest: float
    row: int
    column: int


def against_reference(picture: np.ndarray, tensor: np.ndarray, values: Values, framing: str) -> Off:
    """The tensor beside RGB, bilinear, padded with PADDING, pixel by pixel."""
    _, image = next(as_image(tensor))
    target = (image.shape[0], image.shape[1])
    where = frame((picture.shape[0], picture.shape[1]), target, framing)
    reference = placed(np.rint(resample(picture, where.size, BILINEAR)), target, where, PADDING)
    levels = (image - np.array(values.b, np.float32)) / np.array(values.a, np.float32)
    off = np.abs(levels - reference).max(2)
    row, column = np.unravel_index(int(off.argmax()), off.shape)
    return Off(float((off > 1 + EXACT).mean()), float(off.mean()), float(off.max()), int(row), int(column))
