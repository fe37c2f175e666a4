"""`detparity scaling`: measure how cost grows with size, batch, candidates, classes, threads."""

from __future__ import annotations

import argparse
import sys
import tempfile
from pathlib import Path

from detparity.cli.options import (
    add_model,
    choice_of,
    require_writable,
    say,
)
from detparity.core.errors import InputError
from detparity.core.signals import held_back


def add(parser: argparse.ArgumentParser) -> None:
    add_model(parser)
    parser.add_argument(
        "--markdown",
        type=Path,
        metavar="FILE",
        help="write the page, its charts in a folder beside it (default: print it)",
    )
    parser.set_defaults(run=run)


def run(options: argparse.Namespace) -> int:
    from detparity.core.files import write_text

    with held_back():
        from detparity.tools.bench import scaling

    require_writable(options.markdown)
    folder = options.markdown.with_suffix("") if options.markdown is not None else None
    if folder is not None and (folder == options.markdown or (folder.exists() and not folder.is_dir())):
        raise InputError(
            f"cannot write {options.markdown}: its charts want a folder called {folder}; give the page an ending"
        )
    with tempfile.TemporaryDirectory(prefix="detparity-") as scratch:
        found = scaling.run(choice_of(options), Path(scratch), lambda line: print(line, file=sys.stderr, flush=True))
    if folder is None:
        say(scaling.page(found), end="")
        return 0
    try:
        folder.mkdir(exist_ok=True)
    except OSError as error:
        raise InputError(f"cannot write {folder}: {error.strerror}") from None
    for key, drawing in scaling.drawings(found).items():
        write_text(folder / f"{key}.svg", drawing + "\n")
    write_text(options.markdown, scaling.page(found, folder.name))
    print(f"wrote {options.markdown}, its charts in {folder}")
    return 0
