"""An image as the text of a data URI, for a page: JPEG where Pillow is installed, else PNG by the standard library."""

from __future__ import annotations

import base64
import io
import struct
import zlib
from typing import Tuple

import numpy as np

LARGEST_SIDE = 960  # pixels; larger images are thinned
QUALITY = 88


def data_uri(image: np.ndarray) -> str:
    """(3, H, W) float in 0..1."""
    step = -(-max(image.shape[1:]) // LARGEST_SIDE)
    small = image[:, ::step, ::step]
    pixels = np.ascontiguousarray((np.clip(small, 0.0, 1.0).transpose(1, 2, 0) * 255 + 0.5).astype(np.uint8))
    kind, data = _encoded(pixels)
    return f"data:image/{kind};base64,{base64.b64encode(data).decode()}"


def _encoded(pixels: np.ndarray) -> Tuple[str, bytes]:
    try:
        from PIL import Image
    except ImportError:
        return "png", png(pixels)
    written = io.BytesIO()
    Image.fromarray(pixels).save(written, "JPEG", quality=QUALITY)
    return "jpeg", written.getvalue()


def png(pixels: np.ndarray) -> bytes:
    """(H, W, 3) or, with opacity, (H, W, 4) uint8 as a PNG file."""
    height, width, channels = pixels.shape
    rows = np.concatenate([np.zeros((height, 1), np.uint8), pixels.reshape(height, -1)], axis=1)
    header = struct.pack(">IIBBBBB", width, height, 8, {3: 2, 4: 6}[channels], 0, 0, 0)
    parts = ((b"IHDR", header), (b"IDAT", zlib.compress(rows.tobytes(), 6)), (b"IEND", b""))
    chunks = (
        struct.pack(">I", len(data)) + tag + data + struct.pack(">I", zlib.crc32(tag + data)) for tag, data in parts
    )
    return b"\x89PNG\r\n\x1a\n" + b"".join(chunks)
