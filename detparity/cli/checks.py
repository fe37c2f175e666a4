"""`detparity checks`: list every check with its level."""

from __future__ import annotations

import argparse
from typing import List, Tuple


def add(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--markdown", action="store_true", help="as the reference page docs/checks.md")
    parser.set_defaults(run=run)


def run(options: argparse.Namespace) -> int:
    from detparity.checks import registry
    from detparity.core.text import columns
    from detparity.reports.reference import page

    if options.markdown:
        print(page(registry().values()), end="")
        return 0
    rows: List[Tuple[str, ...]] = [(check.id, check.level, check.about) for check in registry().values()]
    print("\n".join(columns(rows, "")))
    return 0
