"""`detparity explain CHECK`: why a check matters, what usually causes its finding, and how to fix it."""

from __future__ import annotations

import argparse
import shutil
import textwrap
from typing import List

from detparity.cli.options import nearest, say
from detparity.core.errors import InputError


def add(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("checks", nargs="+", metavar="CHECK", help="its id, such as parity.sizes, or a group")
    parser.set_defaults(run=run)


def run(options: argparse.Namespace) -> int:
    from detparity.core.guides import guides

    known = list(guides())
    names: List[str] = []
    for word in options.checks:
        hits = [name for name in known if name == word or name.startswith(f"{word}.")]
        if not hits:
            near = nearest(word, known)
            raise InputError(f"there is no check {word!r}{near} (`detparity checks` lists them)")
        names += [name for name in hits if name not in names]
    say("\n\n".join(map(text, names)))
    return 0


def text(name: str) -> str:
    """The complete text about one check, as wide as the terminal is."""
    from detparity.checks import foreign, registry
    from detparity.core.guides import EXPORTERS, guides

    guide, width = guides()[name], min(shutil.get_terminal_size((100, 24)).columns, 100)
    lines = []
    for title, known in (("the YOLOv7 family", registry()), ("any other detector", foreign.registry())):
        if name in known:
            lines.append(f"{known[name].level} for {title}: {known[name].about}")
    parts = [("Why", [guide.why]), ("Causes", list(guide.causes)), ("Fix", [guide.fix])]
    parts += [(EXPORTERS[key], [fix]) for key, fix in guide.fixes.items()]
    found = [name, *(wrapped for line in lines for wrapped in _wrapped(line, width, "  ", "  "))]
    for title, texts in parts:
        found += ["", f"  {title}"]
        for one in texts:
            found += _wrapped(
                one, width, "    - " if len(texts) > 1 else "    ", "      " if len(texts) > 1 else "    "
            )
    return "\n".join(found)


def _wrapped(line: str, width: int, first: str, rest: str) -> List[str]:
    return textwrap.wrap(line, width, initial_indent=first, subsequent_indent=rest, break_on_hyphens=False)
