"""`detparity models`: list every architecture with its size."""

from __future__ import annotations

import argparse


def add(parser: argparse.ArgumentParser) -> None:
    parser.set_defaults(run=run)


def run(options: argparse.Namespace) -> int:
    from detparity.models.yolov7.architectures import ARCHITECTURES
    from detparity.models.yolov7.summary import listed

    heading = ("name", "head", "layers", "parameters", "fp16", "strides", "image")
    shape = "{:24}  {:10}  {:>6}  {:>11}  {:>8}  {:>14}  {:>5}"
    print(shape.format(*heading))
    for name in ARCHITECTURES:  # one at a time: with an old torch this takes a while
        one = listed(name)
        size, strides = f"{one.megabytes:.1f} MB", ", ".join(map(str, one.strides))
        row = (one.name, one.head, one.layers, f"{one.parameters:,}", size, strides, one.side)
        print(shape.format(*row), flush=True)
    print("\nA name without `deploy-` or `baseline-` does as well: yolov7-tiny, yolov3.")
    return 0
