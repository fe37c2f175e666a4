"""`detparity preprocess`: what was done to a picture before it became a tensor, or what a function of yours does to it."""

from __future__ import annotations

import argparse
import json
from pathlib import Path
from typing import Any, Tuple

from detparity.cli.options import require_writable, say
from detparity.core.errors import InputError
from detparity.core.files import require_file, write_text
from detparity.core.layout import Preprocessing
from detparity.core.text import printable

HOME = "a YOLO model"


def add(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--image", type=Path, required=True, metavar="FILE", help="the picture")
    given = parser.add_mutually_exclusive_group(required=True)
    given.add_argument("--tensor", type=Path, metavar="FILE.npy", help="the tensor that your code made of it")
    given.add_argument(
        "--with", dest="function", metavar="FILE.py:FUNC", help="your function, of a path, that makes the tensor"
    )
    parser.add_argument(
        "--takes",
        choices=("path", "rgb", "bgr"),
        default="path",
        help="what FUNC takes: a path, or the picture (h, w, 3) uint8",
    )
    parser.add_argument("--layout", metavar="FILE.toml", help="what the model takes (default: letterbox, RGB, 0..1)")
    parser.add_argument("--json", type=Path, metavar="FILE", help="write what was found as JSON")
    parser.set_defaults(run=run)


def run(options: argparse.Namespace) -> int:
    """Exit codes: 0 the tensor is what the model takes, 1 it is another one, 2 unusable input."""
    require_writable(options.json, reads=[options.image, options.tensor])
    from detparity.checks.foreign.layout_file import layout_of
    from detparity.inputs.image_files import read_image
    from detparity.tools.preprocess import report, user_function
    from detparity.tools.preprocess.identify import against_reference, identify
    from detparity.tools.preprocess.values import conventions, of_a_model

    picture = read_image(options.image)
    known = conventions()
    stated, name = Preprocessing(), HOME
    if options.layout is not None:
        stated, name = layout_of(options.layout).preprocessing, printable(options.layout, 200)
    expected = report.Expected(name, of_a_model(stated, known), stated.resize)
    values = known if expected.values in known else [expected.values, *known]
    if options.tensor is not None:
        tensor, subject = _tensor(options.tensor)
    else:
        tensor = user_function.tensor_of(options.function, options.takes, options.image, picture)
        subject = f"what {printable(options.function, 200)} returns"
    if tensor.ndim == 4 and tensor.shape[0] > 1:
        subject += f" (the first of its {tensor.shape[0]} images)"
    try:
        fitting, nearest = identify(picture, tensor, values)
    except InputError as error:
        raise InputError(f"{subject}: {error}") from None
    off = against_reference(picture, tensor, expected.values, expected.framing)
    found = report.Found(subject, printable(str(options.image), 200), expected, tuple(fitting), nearest, off)
    if options.json is not None:
        write_text(options.json, json.dumps(report.as_json(found), indent=2) + "\n")
    say(report.text(found))
    return 0 if found.verdict == report.CONFORMS else 1


def _tensor(path: Path) -> Tuple[Any, str]:
    """The array of a .npy file, which is mapped, and the file's name for a reader. Raises InputError."""
    import numpy as np

    require_file(path, "a tensor in a .npy file")
    name = printable(str(path), 200)
    try:
        return np.load(path, mmap_mode="r", allow_pickle=False), name
    except (ValueError, OSError, EOFError) as error:
        raise InputError(
            f"{name} is no .npy file of numbers: {printable(str(error), 120)}; write it with numpy.save"
        ) from None
