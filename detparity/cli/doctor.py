"""`detparity script-doctor`: say why a model does not script, and what works instead."""

from __future__ import annotations

import argparse
import json
from pathlib import Path

from detparity.cli.options import (
    add_model,
    choice_of,
    require_writable,
)
from detparity.core.errors import InputError


def add(parser: argparse.ArgumentParser) -> None:
    add_model(parser)
    group = parser.add_argument_group("a model of your own")
    group.add_argument(
        "--model",
        metavar="FILE.py:NAME",
        help="a class, an instance or a function that returns one. This runs the code of FILE, which no other command does",
    )
    group.add_argument("--args", metavar="LITERALS", help="arguments of the class or function, such as '80, width=0.5'")
    parser.add_argument(
        "--call-site",
        type=Path,
        nargs="+",
        default=[],
        metavar="FILE.py",
        help="read (never run) these files for calls of torch.jit.script that are handed a result; alone, only that is done",
    )
    parser.add_argument("--json", type=Path, metavar="FILE", help="write the diagnosis as JSON")
    parser.set_defaults(run=run)


def run(options: argparse.Namespace) -> int:
    """Exit codes: 0 it scripts and can be saved, 1 it does not, or a call site scripts a result, 2 unusable input."""
    from detparity.core.environment import environment
    from detparity.core.files import write_text
    from detparity.tools.doctor import report
    from detparity.tools.doctor.run import Request, diagnose

    require_writable(options.json)
    if options.model is not None and (options.weights or options.cfg is not None or options.arch is not None):
        raise InputError("--model and --weights, --cfg or --arch both choose the model; give one of them")
    if options.args is not None and options.model is None:
        raise InputError("--args goes with --model")
    found = diagnose(Request(choice_of(options), options.model, options.args, tuple(options.call_site)))
    if options.json is not None:
        write_text(options.json, json.dumps(report.record(found, environment()), indent=1) + "\n")
    print(report.text(found))
    return 0 if found.healthy else 1
