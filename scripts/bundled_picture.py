"""Draws what the bundled detector finds in a scene: `python scripts/bundled_picture.py docs/bundled.png --seed 7`. Needs Pillow."""

from __future__ import annotations

import argparse
import io
from pathlib import Path

import numpy as np
import torch
from PIL import Image, ImageDraw

from detparity.checks.mean_ap import suppressed
from detparity.core.files import write_bytes
from detparity.inputs.scenes import CLASSES, scene
from detparity.models.choice import BUNDLED_SIZE, bundled
from detparity.models.yolov7.network import Predictions
from detparity.oracle.nms import NmsRule

RULE = NmsRule(iou_threshold=0.6, score_threshold=0.35, cap=300, best_class=True)
SCALE, COLOURS = 2, 64  # enlarged; few colours, so that the file is small


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("output", type=Path)
    parser.add_argument("--seed", type=int, default=0)
    options = parser.parse_args()
    drawn = scene(BUNDLED_SIZE, options.seed)
    with torch.no_grad():
        values = Predictions(bundled().network)(torch.from_numpy(drawn.image[None]))[0].numpy()
    found = suppressed(values, RULE)
    pixels = (drawn.image.transpose(1, 2, 0) * 255).round().astype(np.uint8)
    picture = Image.fromarray(pixels).resize(
        (BUNDLED_SIZE[1] * SCALE, BUNDLED_SIZE[0] * SCALE), Image.Resampling.NEAREST
    )
    pen = ImageDraw.Draw(picture)
    for box, score, label in zip(found.boxes * SCALE, found.scores, found.classes):
        pen.rectangle(box.tolist(), outline=(255, 255, 255))
        text, corner = f"{CLASSES[label]} {score:.2f}", (box[0] + 2, max(box[1] - 11, 0))
        pen.rectangle(pen.textbbox(corner, text), fill=(0, 0, 0))
        pen.text(corner, text, fill=(255, 255, 255))
    written = io.BytesIO()
    picture.quantize(COLOURS, dither=Image.Dither.NONE).save(written, "PNG", optimize=True)
    write_bytes(options.output, written.getvalue())


if __name__ == "__main__":
    main()
