"""The user's own pictures: found in a folder, read within bounds, and brought to the size that a detector takes.

A picture of a folder becomes one of the kinds of `inputs/images.py`, so that every check takes it like any other.
"""

from __future__ import annotations

import functools
from dataclasses import dataclass
from pathlib import Path
from typing import List, Mapping, Optional, Sequence, Tuple

import numpy as np

from detparity.core.errors import InputError
from detparity.core.files import sha256
from detparity.core.vocabulary import Picture, Size
from detparity.inputs import images
from detparity.inputs.framing import CORNER, LETTERBOX, PADDING, STRETCH, frame
from detparity.inputs.framing import placed as inside
from detparity.inputs.image_files import pictures_of, read_image, require_pillow
from detparity.inputs.resampling import resample

MOST_BYTES = 200_000_000  # of one picture: what is larger is refused before it is decoded
MOST = 100  # pictures of a folder
RESIZES: Mapping[str, str] = {"letterbox": LETTERBOX, "corner": CORNER, "stretch": STRETCH}


@dataclass(frozen=True)
class Fit:
    """How a picture is brought to the input's size. resize: "letterbox" (scaled to fit, padded on both sides), "corner" (padded right
    and below) or "stretch"; order: of the channels, "rgb" or "bgr"; pad: value of the padding, 0 to 255."""

    resize: str = "letterbox"
    order: str = "rgb"
    pad: int = PADDING

    @property
    def text(self) -> str:
        return f"resize={self.resize},order={self.order},pad={self.pad}"


@dataclass(frozen=True)
class PhotosAsked:
    """folder: of pictures, or one picture; labels: of them, None for none; most: pictures; fit: None for the layout's own; resume:
    where what each picture gave is stored, None for nowhere."""

    folder: Path
    labels: Optional[Path] = None
    most: int = MOST
    fit: Optional[Fit] = None
    resume: Optional[Path] = None

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
    known: Mapping[str, Sequence[str]] = {"resize": tuple(RESIZES), "order": ("rgb", "bgr"), "pad": ()}
    found = {}
    for part in filter(None, (part.strip() for part in text.split(","))):
        key, _, value = part.partition("=")
        if key not in known or (known[key] and value not in known[key]):
            choices = "; ".join(f"{name}={'|'.join(values) or '0..255'}" for name, values in known.items())
            raise InputError(f"--preprocess {part!r} is none of {choices}")
        if key == "pad" and not (value.isdecimal() and int(value) <= 255):
            raise InputError(f"--preprocess pad={value} is not 0 to 255")
        found[key] = value
    return Fit(found.get("resize", "letterbox"), found.get("order", "rgb"), int(found.get("pad", PADDING)))


def find(asked: PhotosAsked) -> Tuple[List[Photo], List[str]]:
    """The pictures of a folder in the order of their names, and a line for each that cannot be used. Raises InputError where Pillow
    is missing or nothing is left."""
    require_pillow()
    folder = asked.folder
    paths = [folder] if folder.is_file() else pictures_of(folder)
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


@functools.lru_cache(maxsize=4)
def read(path: Path) -> np.ndarray:
    """(H, W, 3) uint8, RGB, upright. Raises InputError, in one line."""
    if path.stat().st_size > MOST_BYTES:
        raise InputError(
            f"{path} has {path.stat().st_size / 1e6:.0f} MB, more than the {MOST_BYTES / 1e6:.0f} that are read"
        )
    pixels = read_image(path)
    if min(pixels.shape[:2]) < 2:
        raise InputError(f"{path} is {pixels.shape[1]}x{pixels.shape[0]}, which is no picture")
    return pixels


# --- geometry


def fitted(pixels: np.ndarray, size: Size, fit: Fit) -> np.ndarray:
    """(H, W, 3) uint8 as (3, *size) float32 in 0..1."""
    where = frame((pixels.shape[0], pixels.shape[1]), size, RESIZES[fit.resize])
    levels = np.rint(resample(pixels, where.size, "bilinear"))
    canvas = np.clip(inside(levels, size, where, fit.pad), 0, 255)
    if fit.order == "bgr":
        canvas = canvas[:, :, ::-1]
    return np.ascontiguousarray(canvas.transpose(2, 0, 1), dtype=np.float32) / np.float32(255)


def placed(boxes: np.ndarray, source: Size, size: Size, fit: Fit) -> np.ndarray:
    """Corners (n, 4) in pixels of a stored picture as corners in pixels of the input."""
    where = frame(source, size, RESIZES[fit.resize])
    scale = np.array([where.size[1] / source[1], where.size[0] / source[0]] * 2)
    return np.asarray(boxes, np.float64).reshape(-1, 4) * scale + np.array([where.left, where.top] * 2)
