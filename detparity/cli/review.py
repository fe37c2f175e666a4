"""`detparity review`: review goldens that changed: list, show, accept, reject."""

from __future__ import annotations

import argparse
import sys
from pathlib import Path
from typing import Any

from detparity.cli.options import Parser, ask, require_pages, require_writable, say
from detparity.core.errors import InputError


def add(parser: argparse.ArgumentParser) -> None:
    parser.set_defaults(run=run, verb=None, name=None)
    parser.add_argument(
        "--html", type=Path, metavar="FILE", help="write all that waits as one HTML page, with pictures"
    )
    verbs = parser.add_subparsers(dest="verb", parser_class=Parser)
    everywhere = [parser]
    for verb, about in (
        ("list", "what waits, grouped by the change"),
        ("show", "what changed in one golden, as text, with its picture and whether parity holds"),
        ("accept", "make goldens of what waits"),
        ("reject", "take away what waits; the golden stays"),
    ):
        one: argparse.ArgumentParser = verbs.add_parser(verb, help=about)
        everywhere.append(one)
        if verb != "list":
            one.add_argument("name", metavar="NAME", help="such as graph/grid")
        if verb in ("accept", "reject"):
            one.add_argument("--same", action="store_true", help="and all with the same change")
        if verb == "accept":
            one.add_argument("--why", default="", metavar="TEXT", help="the reason, which the index records")
            one.add_argument(
                "--parity-lost", action="store_true", help="although it no longer does what the model does"
            )
    for one_parser in everywhere:
        # Given once, before or after the verb: a default of its own would undo the other.
        missing = None if one_parser is parser else argparse.SUPPRESS
        one_parser.add_argument("--golden", type=Path, default=missing, metavar="DIR", help="where goldens lie")
        one_parser.add_argument(
            "--from",
            dest="pending",
            type=Path,
            default=missing,
            metavar="DIR",
            help="what waits, such as a CI artifact",
        )


def run(options: argparse.Namespace) -> int:
    """Exit codes: 0 done or nothing waits, 1 something still waits, 2 unusable input."""
    from detparity.tools.golden import review
    from detparity.tools.golden.evaluate import Folders
    from detparity.tools.golden.pending import folder_for
    from detparity.tools.golden.picture import draw
    from detparity.tools.golden.user_goldens import default_folders

    require_writable(options.html)
    require_pages(options.html)
    golden, arguments = default_folders(options.golden, options.pending)
    if options.pending is not None and not options.pending.is_dir():
        raise InputError(f"--from {options.pending}: no such folder")
    found = review.open_review(Folders(golden, folder_for(golden, options.pending)), arguments)
    if options.html is not None:
        _write_page(found, options)
    if options.verb in ("accept", "reject"):
        one = review.named(found, options.name)
        chosen = review.group_of(found, one) if options.same else [one]
        if options.verb == "accept":
            lines = review.accept(found, chosen, options.why, options.parity_lost)
        else:
            lines = review.reject(found, chosen)
        say("\n".join(lines))
        return 0
    if options.verb == "show":
        say(review.showing(found, review.named(found, options.name), draw))
        return 1
    say(review.listing(found))
    if not found.waiting:
        return 0
    if options.verb is None and sys.stdin.isatty() and sys.stdout.isatty():
        return 1 if review.walk(found, draw, ask, say) else 0
    say("\nThese commands show and decide:\n\n" + "\n".join(f"  {line}" for line in review.commands(found)))
    return 1


def _write_page(found: Any, options: argparse.Namespace) -> None:
    from detparity.core.files import write_text
    from detparity.tools.golden.html import page

    write_text(options.html, page(found))
