"""`detparity completion SHELL`: print a completion script.

Made by shtab, which writes a script once; argcomplete would start this command at each TAB, and its imports take a second.
"""

from __future__ import annotations

import argparse

from detparity.cli.options import say
from detparity.core.errors import InputError


def add(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("shell", choices=("bash", "zsh", "tcsh"), metavar="SHELL", help="bash, zsh or tcsh")
    parser.set_defaults(run=run)


def run(options: argparse.Namespace) -> int:
    try:
        import shtab
    except ImportError:
        raise InputError(
            "completion needs shtab, which is not installed: pip install 'detparity[completion]'"
        ) from None
    from detparity.cli.main import complete_parser

    say(shtab.complete(complete_parser(), options.shell))
    return 0
