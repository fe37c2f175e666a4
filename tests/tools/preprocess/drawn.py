"""Pictures and the tensors people make of them, by Pillow and torch alone, with the combination that was used."""

from __future__ import annotations

import numpy as np
import PIL.Image
import torch
from torch.nn import functional

PILLOW = {
    "bilinear, antialiased": PIL.Image.BILINEAR,
    "bicubic, antialiased (Pillow)": PIL.Image.BICUBIC,
    "Lanczos (Pillow)": PIL.Image.LANCZOS,
    "nearest to the centre (Pillow)": PIL.Image.NEAREST,
}
TORCH = {"bilinear": "bilinear", "bicubic": "bicubic", "nearest (torch)": "nearest", "average pooling": "area"}
VALUES = {
    "0..1 (divided by 255)": lambda levels: levels / 255,
    "0..255 (not divided)": lambda levels: levels,
    "0..1/255 (divided by 255 twice)": lambda levels: levels / 255 / 255,
    "0..0.996 (divided by 256)": lambda levels: levels / 256,
    "-1..1": lambda levels: levels / 127.5 - 1,
    "ImageNet's mean and deviation": lambda levels: (levels / 255 - (0.485, 0.456, 0.406)) / (0.229, 0.224, 0.225),
    "ImageNet's mean and deviation, those of blue for red": lambda levels: (
        (levels / 255 - (0.406, 0.456, 0.485)) / (0.225, 0.224, 0.229)
    ),
}
FRAMINGS = ("letterbox", "letterbox at the top left", "stretch")


def picture(rng, height, width):
    """(height, width, 3) uint8 with detail at every size."""
    coarse = rng.integers(0, 256, (max(height // 16, 2), max(width // 16, 2), 3), dtype=np.uint8)
    smooth = np.asarray(PIL.Image.fromarray(coarse).resize((width, height), PIL.Image.BILINEAR), float)
    return np.clip(smooth + rng.normal(0, 25, smooth.shape), 0, 255).astype(np.uint8)


def resized(levels, height, width, how, rounded):
    """(height, width, 3) float64 levels, by the library that has this resampling."""
    if how in PILLOW:
        return np.asarray(PIL.Image.fromarray(levels).resize((width, height), PILLOW[how]), float)
    batch = torch.from_numpy(levels.transpose(2, 0, 1)[None].copy()).to(
        torch.float32 if "nearest" in how else torch.float64
    )
    more = {"align_corners": False} if how in ("bilinear", "bicubic") else {}
    found = functional.interpolate(batch, (height, width), mode=TORCH[how], **more)[0].permute(1, 2, 0).numpy()
    return np.clip(np.rint(found), 0, 255) if rounded else found


def drawn(seed):
    """(picture, tensor, what was done to it: axes, channels, values, framing, resampling, padding or None)."""
    rng = np.random.default_rng([seed, 17])
    height, width = int(rng.integers(60, 200)), int(rng.integers(60, 200))
    target = (int(rng.integers(2, 6)) * 32, int(rng.integers(2, 6)) * 32)
    source = picture(rng, height, width)
    how, framing, name = rng.choice([*PILLOW, *TORCH]), rng.choice(FRAMINGS), rng.choice(list(VALUES))
    channels, axes, kind = (
        rng.choice(["RGB", "BGR"]),
        rng.choice(["NCHW", "NHWC", "CHW", "HWC"]),
        rng.choice(["f4", "f2", "f8"]),
    )
    kind = "f4" if name.startswith("0..1/255") else kind  # too small for float16
    padding = float(rng.choice([0.0, 114.0, 128.0]))
    ratio = min(target[0] / height, target[1] / width)
    size = target if framing == "stretch" else (round(height * ratio), round(width * ratio))
    levels = np.full((*target, 3), padding)
    top, left = ((target[k] - size[k]) // 2 if framing == "letterbox" else 0 for k in range(2))
    levels[top : top + size[0], left : left + size[1]] = resized(source, *size, how, bool(rng.integers(2)))
    levels = levels[:, :, ::-1] if channels == "BGR" else levels
    image = VALUES[name](levels).astype(kind)
    image = image.transpose(2, 0, 1) if axes.endswith("CHW") else image
    tensor = image[None] if axes.startswith("N") else image
    covered = framing == "stretch" or size == target
    return source, tensor, (axes, channels, name, framing, how, None if covered else padding)
