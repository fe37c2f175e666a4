"""`detparity power`: what the verdict on a file would have seen, layer by layer, and what not."""

from __future__ import annotations

import argparse
import json
import sys
from pathlib import Path
from typing import Any, Dict, Iterator, Mapping

from detparity.cli.check import require_one_file
from detparity.cli.console import Console
from detparity.cli.options import (
    add_any_model,
    add_cache,
    add_display,
    add_model,
    add_nms,
    cache_of,
    choice_of,
    model_files,
    require_nms,
    require_writable,
    size_of,
)
from detparity.core.errors import InputError
from detparity.core.file_kind import require_checkpoint
from detparity.core.files import require_file, write_text
from detparity.core.findings import CannotRun
from detparity.core.signals import held_back
from detparity.core.text import columns, number
from detparity.engines.remote import client
from detparity.models.choice import of_a_package, require_named, require_one_model

MOST = 100  # weights of a model that is not of the home family


def add(parser: argparse.ArgumentParser) -> None:
    add_model(parser)
    add_any_model(parser)
    parser.add_argument("artifact", type=Path, metavar="ARTIFACT", help="the exported file")
    parser.add_argument(
        "--layers", type=int, metavar="N", help=f"weights, evenly spread (default: all; {MOST} of another model)"
    )
    parser.add_argument("--variant", help="what the file promises to be (default: read from it)")
    parser.add_argument("--img-size", type=int, nargs="+", metavar="N", help="height, width, where it declares none")
    add_nms(parser, None, None, None)
    parser.add_argument("--json", type=Path, metavar="FILE", help="write it as JSON")
    add_cache(parser)
    add_display(parser)
    parser.set_defaults(run=run)


def run(options: argparse.Namespace) -> int:
    """Exit codes: 0, and 2 for unusable input."""
    path, choice = options.artifact, choice_of(options)
    require_writable(options.json, reads=[path, *model_files(options)])
    require_nms(options)
    require_one_model(choice)
    require_one_file([path])
    require_named(choice, [path])
    if options.layers is not None and options.layers < 1:
        raise InputError("--layers is a number from 1 on")
    for weights in options.weights:
        require_file(weights, "a checkpoint")
        require_checkpoint(weights)
    with Console(vars(options), sys.stdout, options.started) as console:
        console.stage("loading")
        client().start()
        found = _found(options, console)
        for line in _lines(found):
            console(line)
    if options.json is not None:
        write_text(options.json, json.dumps({"path": str(path), **found}, indent=1) + "\n")
    return 0


def _found(options: argparse.Namespace, console: Console) -> Dict[str, Any]:
    with held_back():
        from detparity.artifacts.open import Asked
        from detparity.checks import power
        from detparity.checks.context import Context
        from detparity.checks.foreign.sources import source_of
        from detparity.checks.session import Options, Session

    asked = Options(
        choice=of_a_package(choice_of(options)),
        artifacts=(options.artifact,),
        variant=options.variant,
        img_size=size_of(options.img_size),
        promised=Asked(options.iou_thres, options.conf_thres, options.topk_all, options.max_wh),
        cache=cache_of(options),
    )
    session = Session(asked, None, source_of(asked.choice, asked.img_size) if asked.choice.foreign else None)
    console.stage("loading the model")
    session.load()
    context = session.judged(options.artifact)
    console.stage("running the model with one weight changed at a time")
    if context.contract.quantised:
        raise InputError(f"{options.artifact} is of 8 bits: no floor holds for it, and `check` states its budget")
    try:
        if isinstance(context, Context):
            return power.of_home(context, session.detector, options.layers or sys.maxsize)
        stage = "running the model with one weight changed at a time: {} of {}"
        return power.of_foreign(context, options.layers or MOST, lambda *at: console.stage(stage.format(*at)))
    except CannotRun as error:
        raise InputError(f"{options.artifact}: {error}") from None


def _lines(found: Mapping[str, Any]) -> Iterator[str]:
    layers = found.get("power", {})
    if layers:
        rows = [("weights, in the order they run", "smallest relative error")]
        yield from columns([*rows, *((name, number(value)) for name, value in layers.items())])
        if len(layers) < found.get("power_of", 0):
            yield f"  {len(layers)} of {found['power_of']} weights, evenly spread (--layers N: more)"
        yield ""
    rows = [("numbers", "smallest error")]
    yield from columns(
        [*rows, *((name, f"{number(one['smallest'])} {one['unit']}") for name, one in found["sees"].items())]
    )
    if found["blind_spots"]:
        yield ""
        yield "  not seen:"
        yield from (f"    {text}" for text in found["blind_spots"])
