"""`detparity shims`: list every compatibility shim with the versions that need it."""

from __future__ import annotations

import argparse
from typing import List, Tuple


def add(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--markdown", action="store_true", help="as the reference page docs/shims.md")
    parser.set_defaults(run=run)


def run(options: argparse.Namespace) -> int:
    from detparity.core.text import columns
    from detparity.models.compat import shims
    from detparity.reports.reference import shims_page

    found = shims.registry()
    if options.markdown:
        print(shims_page(found), end="")
        return 0
    rows: List[Tuple[str, ...]] = [
        (name, str(module.__doc__).strip().splitlines()[0]) for name, module in found.items()
    ]
    print("\n".join(columns(rows, "")))
    return 0
