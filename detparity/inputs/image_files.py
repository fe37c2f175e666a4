"""Pictures from files, as a detector's pipeline meets them: RGB, upright, bounded before anything is decoded."""

from __future__ import annotations

import warnings
from pathlib import Path
from typing import Any, List

import numpy as np

from detparity.core.errors import InputError
from detparity.core.text import printable

MOST_PIXELS = 100_000_000
SUFFIXES = (".bmp", ".jpeg", ".jpg", ".png", ".tif", ".tiff", ".webp")


def require_pillow() -> None:
    """Raises InputError where Pillow is missing."""
    try:
        import PIL.Image  # noqa: F401
    except ImportError:
        raise InputError("reading pictures needs Pillow: pip install 'detparity[pictures]'") from None


def read_image(path: Path, upright: bool = True) -> np.ndarray:
    """(h, w, 3) uint8 RGB. upright: turned as the file's own EXIF orientation asks, as OpenCV does; grey levels and palettes become
    RGB, transparency is left out. Raises InputError where the file is no picture, is damaged, or has more than MOST_PIXELS."""
    require_pillow()
    import PIL.Image
    import PIL.ImageOps

    name = printable(str(path), 200)
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            with PIL.Image.open(path) as opened:
                if opened.width * opened.height > MOST_PIXELS:
                    raise InputError(f"{name} has {opened.width}x{opened.height} pixels: more than {MOST_PIXELS:,}")
                image: Any = PIL.ImageOps.exif_transpose(opened) if upright else opened
                return np.asarray(image.convert("RGB"))
    except PIL.UnidentifiedImageError:
        raise InputError(f"{name} is no picture that Pillow reads") from None
    except FileNotFoundError:
        raise InputError(f"{name} does not exist") from None
    except IsADirectoryError:
        raise InputError(f"{name} is a folder, not a picture") from None
    except (OSError, ValueError, SyntaxError, EOFError, PIL.Image.DecompressionBombError) as error:
        raise InputError(f"{name} is a damaged picture: {printable(str(error), 120)}") from None


def pictures_of(folder: Path) -> List[Path]:
    """The picture files of a folder and the folders in it, by name. Raises InputError where there is none."""
    if not folder.is_dir():
        raise InputError(f"{printable(str(folder), 200)} is no folder of pictures")
    found = sorted(path for path in folder.rglob("*") if path.suffix.lower() in SUFFIXES and path.is_file())
    if not found:
        raise InputError(f"{printable(str(folder), 200)} holds no picture ({', '.join(SUFFIXES)})")
    return found
