"""`detparity replay`: repeat the difference that `detparity locate --bundle` wrote."""

from __future__ import annotations

import argparse
from pathlib import Path

from detparity.cli.options import say
from detparity.core.errors import EngineDied, EngineError, InputError
from detparity.core.text import number


def add(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("folder", type=Path, metavar="DIR", help="a bundle")
    parser.set_defaults(run=run)


def run(options: argparse.Namespace) -> int:
    """Exit codes: 0 it does not differ here, 1 it still differs, 2 unusable input."""
    from detparity.checks.locating.bundle import replayed

    try:
        off, facts = replayed(options.folder)
    except (EngineError, EngineDied) as error:
        raise InputError(f"{options.folder}: its part does not run here: {error}") from None
    wrong = not off <= facts["allowed"]  # no number at all is wrong as well
    say(f"{facts['file']}: {facts['module']}, node {facts['node']!r}, {facts['case']}")
    say(f"  error     {number(off)} here, {number(facts['error'])} where it was written")
    say(f"  allowed   {number(facts['allowed'])}, what rounding does")
    say("  it still differs" if wrong else "  it does not differ here")
    return int(wrong)
