"""The `detparity` command. Exit codes: 0 conforms, 1 violates, 2 unusable input, 3 incomplete."""

from __future__ import annotations

import importlib
import os
import sys
from typing import List, Mapping, Optional, Sequence, Tuple

from detparity.cli.options import Parser
from detparity.core.errors import InputError
from detparity.core.text import printable
from detparity.core.version import __version__
from detparity.core.vocabulary import EngineDied

# Subcommand: its module of this package, and its line of help. A module is imported when its subcommand is the one that was given.
SUBCOMMANDS: Mapping[str, Tuple[str, str]] = {
    "export": ("export", "export a detector to TorchScript and ONNX"),
    "check": ("check", "judge exported files against their model"),
    "bench": ("bench", "time exported files against their model, interleaved"),
    "scaling": ("scaling", "measure how cost grows with size, batch, candidates, classes, threads"),
    "diff": ("diff", "say what changed between two ONNX files"),
    "matrix": ("matrix", "merge the reports of many environments into one table"),
    "golden": ("golden", "record goldens of your own exports, and compare the next release"),
    "review": ("review", "review goldens that changed: list, show, accept, reject"),
    "models": ("models", "list every architecture with its size"),
    "script-doctor": ("doctor", "say why a model does not script, and what works instead"),
    "checks": ("checks", "list every check with its level"),
    "shims": ("shims", "list every compatibility shim with the versions that need it"),
}


def main(arguments: Optional[Sequence[str]] = None) -> int:
    """Run the command; unusable input is one line on stderr and exit code 2."""
    words = sys.argv[1:] if arguments is None else list(arguments)
    try:
        options = _parser(words).parse_args(words)
        return int(options.run(options))
    except InputError as error:
        print(f"detparity: {error}", file=sys.stderr)
        return 2
    except EngineDied as error:
        print(f"detparity: the file {printable(str(error))}", file=sys.stderr)
        return 2
    except BrokenPipeError:
        # The reader of our output has ended: there is nothing to print, and the interpreter must not try again at exit.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return 2


def _parser(words: List[str]) -> Parser:
    parser = Parser(prog="detparity", description="Does the exported detector still do what the model does?")
    parser.add_argument("--version", action="version", version=f"detparity {__version__}")
    commands = parser.add_subparsers(dest="command", required=True, parser_class=Parser)
    given = next((word for word in words if not word.startswith("-")), "")
    for name, (module, about) in SUBCOMMANDS.items():
        one = commands.add_parser(name, help=about)
        if name == given:
            importlib.import_module(f"detparity.cli.{module}").add(one)
    return parser


if __name__ == "__main__":
    sys.exit(main())
