"""The user's own pictures: found in a folder, read within bounds, and brought to the size that a detector takes.

A picture of a folder becomes one of the kinds of `inputs/images.py`, so that every check takes it like any other.
"""

from __future__ import annotations

import functools
import warnings
from dataclasses import dataclass
from pathlib import Path
from typing import List, Mapping, Optional, Sequence, Tuple

import numpy as np

from detparity.core.errors import InputError
from detparity.core.files import sha256
from detparity.core.vocabulary import Picture, Size
from detparity.inputs import images

SUFFIXES = (".jpg", ".jpeg", ".png", ".bmp", ".webp")
FORMATS = ("JPEG", "PNG", "BMP", "WEBP")
MOST_BYTES, MOST_PIXELS = 100_000_000, 50_000_000  # of one picture: what is larger is refused before it is decoded
MOST = 100  # pictures of a folder
RESIZES = ("letterbox", "corner", "stretch")


@dataclass(frozen=True)
class Fit:
    """How a picture is brought to the input's size. resize: "letterbox" (scaled to fit, padded on both sides), "corner" (padded right
    and below) or "stretch"; order: of the channels, "rgb" or "bgr"; pad: value of the padding, 0 to 255."""

    resize: str = "letterbox"
    order: str = "rgb"
    pad: int = 114

    @property
    def text(self) -> str:
        return f"resize={self.resize},order={self.order},pad={self.pad}"


@dataclass(frozen=True)
class PhotosAsked:
    """folder: of pictures, or one picture; labels: of them, None for none; most: pictures; fit: None for the layout's own."""

    folder: Path
    labels: Optional[Path] = None
    most: int = MOST
    fit: Optional[Fit] = None

    @property
    def arguments(self) -> List[str]:
        """The options that ask for the same."""
        found = ["--images", str(self.folder)]
        found += ["--labels", str(self.labels)] if self.labels is not None else []
        found += ["--max-images", str(self.most)] if self.most != MOST else []
        return found + (["--preprocess", self.fit.text] if self.fit is not None else [])


@dataclass(frozen=True)
class Photo:
    """name: its path inside the folder; size: (height, width) as stored, upright."""

    path: Path
    name: str
    sha256: str
    size: Size


def fit_of(text: str) -> Fit:
    """`resize=stretch,order=bgr,pad=0` as data. Raises InputError."""
    known: Mapping[str, Sequence[str]] = {"resize": RESIZES, "order": ("rgb", "bgr"), "pad": ()}
    found = {}
    for part in filter(None, (part.strip() for part in text.split(","))):
        key, _, value = part.partition("=")
        if key not in known or (known[key] and value not in known[key]):
            choices = "; ".join(f"{name}={'|'.join(values) or '0..255'}" for name, values in known.items())
            raise InputError(f"--preprocess {part!r} is none of {choices}")
        if key == "pad" and not (value.isdecimal() and int(value) <= 255):
            raise InputError(f"--preprocess pad={value} is not 0 to 255")
        found[key] = value
    return Fit(found.get("resize", "letterbox"), found.get("order", "rgb"), int(found.get("pad", 114)))


def find(asked: PhotosAsked) -> Tuple[List[Photo], List[str]]:
    """The pictures of a folder in the order of their names, and a line for each that cannot be used. Raises InputError where Pillow
    is missing or nothing is left."""
    _pillow()
    folder = asked.folder
    if not folder.exists():
        raise InputError(f"--images {folder} does not exist")
    paths = sorted(one for one in folder.rglob("*") if one.suffix.lower() in SUFFIXES) if folder.is_dir() else [folder]
    if not paths:
        raise InputError(f"--images {folder} holds no picture ({', '.join(SUFFIXES)})")
    found: List[Photo] = []
    problems: List[str] = []
    for path in paths:
        if len(found) == asked.most:
            problems.append(f"{len(paths) - len(found) - len(problems)} more pictures were left out (--max-images)")
            break
        name = path.relative_to(folder).as_posix() if folder.is_dir() else path.name
        try:
            found.append(_photo(path, name))
        except InputError as error:
            problems.append(str(error))
    if not found:
        raise InputError(f"--images {folder}: {problems[0]}" + (f" ({len(problems)} in all)" if problems[1:] else ""))
    return found, problems


def _photo(path: Path, name: str) -> Photo:
    height, width = read(path).shape[:2]
    return Photo(path, name, sha256(path), (int(height), int(width)))


def as_pictures(photos: Sequence[Photo], fit: Fit) -> Tuple[Picture, ...]:
    """What checks call these pictures by, brought to any size in one manner."""
    found = []
    for photo in photos:
        more = "" if fit == Fit() else f",{fit.resize},{fit.order},{fit.pad}"
        kind = f"{photo.name}#{photo.sha256[:8]}{more}".replace(" ", "_")
        images.add(kind, functools.partial(_made, photo.path, fit))
        found.append((kind, 0))
    return tuple(found)


def _made(path: Path, fit: Fit, size: Size, _: int) -> np.ndarray:
    return fitted(read(path), size, fit)


def _pillow() -> None:
    try:
        import PIL  # noqa: F401
    except ImportError:
        raise InputError("--images needs pillow, which is not installed: pip install 'detparity[pictures]'") from None


@functools.lru_cache(maxsize=4)
def read(path: Path) -> np.ndarray:
    """(H, W, 3) uint8, RGB, upright. Raises InputError, in one line."""
    from PIL import Image, ImageOps

    if path.stat().st_size > MOST_BYTES:
        raise InputError(
            f"{path} has {path.stat().st_size / 1e6:.0f} MB, more than the {MOST_BYTES / 1e6:.0f} that are read"
        )
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            with Image.open(path, formats=FORMATS) as image:
                if image.width * image.height > MOST_PIXELS:
                    raise InputError(
                        f"{path} is {image.width}x{image.height}, more than the {MOST_PIXELS / 1e6:.0f} million pixels that are read"
                    )
                pixels = np.asarray(ImageOps.exif_transpose(image).convert("RGB"))
    except Image.DecompressionBombError:
        raise InputError(f"{path} has more than the {MOST_PIXELS / 1e6:.0f} million pixels that are read") from None
    except InputError:
        raise
    except Exception as error:  # a decoder raises what it likes on bytes that are no picture
        raise InputError(f"{path} is not a picture or is truncated ({type(error).__name__})") from None
    if min(pixels.shape[:2]) < 2:
        raise InputError(f"{path} is {pixels.shape[1]}x{pixels.shape[0]}, which is no picture")
    return pixels


# --- geometry


def placing(source: Size, size: Size, fit: Fit) -> Tuple[int, int, int, int]:
    """Top, left, height and width of a picture inside the input, in pixels: as letterboxes of YOLOv5 and YOLOv7 round them."""
    if fit.resize == "stretch":
        return 0, 0, size[0], size[1]
    ratio = min(size[0] / source[0], size[1] / source[1])
    height, width = (max(1, min(side, round(one * ratio))) for side, one in zip(size, source))
    if fit.resize == "corner":
        return 0, 0, height, width
    return round((size[0] - height) / 2 - 0.1), round((size[1] - width) / 2 - 0.1), height, width


def fitted(pixels: np.ndarray, size: Size, fit: Fit) -> np.ndarray:
    """(H, W, 3) uint8 as (3, *size) float32 in 0..1."""
    top, left, height, width = placing((pixels.shape[0], pixels.shape[1]), size, fit)
    canvas = np.full((*size, 3), fit.pad, np.uint8)
    canvas[top : top + height, left : left + width] = resized(pixels, (height, width))
    if fit.order == "bgr":
        canvas = canvas[:, :, ::-1]
    return np.ascontiguousarray(canvas.transpose(2, 0, 1)).astype(np.float32) / np.float32(255)


def placed(boxes: np.ndarray, source: Size, size: Size, fit: Fit) -> np.ndarray:
    """Corners (n, 4) in pixels of a stored picture as corners in pixels of the input."""
    top, left, height, width = placing(source, size, fit)
    scale = np.array([width / source[1], height / source[0]] * 2)
    return np.asarray(boxes, np.float64).reshape(-1, 4) * scale + np.array([left, top] * 2)


def resized(pixels: np.ndarray, size: Size) -> np.ndarray:
    """Bilinear between pixel centres without smoothing, rounded to 8 bits: what OpenCV's INTER_LINEAR does, up to its last bit."""
    if pixels.shape[:2] == tuple(size):
        return pixels
    rows, columns = (_taps(pixels.shape[axis], size[axis]) for axis in (0, 1))
    (above, below, share_y), (before, after, share_x) = rows, columns
    wide = [
        pixels[line][:, before] * (1 - share_x)[None, :, None] + pixels[line][:, after] * share_x[None, :, None]
        for line in (above, below)
    ]
    mixed = wide[0] * (1 - share_y)[:, None, None] + wide[1] * share_y[:, None, None]
    return np.asarray(np.clip(np.floor(mixed + np.float32(0.5)), 0, 255), np.uint8)


def _taps(source: int, target: int) -> Tuple[np.ndarray, np.ndarray, np.ndarray]:
    """The two pixels that each pixel of a resized line lies between, and the share of the second."""
    at = np.clip((np.arange(target) + 0.5) * (source / target) - 0.5, 0, source - 1)
    first = np.floor(at).astype(np.int64)
    return first, np.minimum(first + 1, source - 1), (at - first).astype(np.float32)
