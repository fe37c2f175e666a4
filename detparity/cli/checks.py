"""`detparity checks`: list every check with its level."""

from __future__ import annotations

import argparse
from typing import List, Tuple


def add(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--markdown", action="store_true", help="as the reference page docs/checks.md")
    parser.set_defaults(run=run)


def run(options: argparse.Namespace) -> int:
    from detparity.checks import foreign, registry
    from detparity.core.guides import guides
    from detparity.core.text import columns
    from detparity.reports.reference import page

    if options.markdown:
        print(page(registry().values(), foreign.registry().values(), guides()), end="")
        return 0
    home: List[Tuple[str, ...]] = [(check.id, check.level, check.about) for check in registry().values()]
    other: List[Tuple[str, ...]] = [(check.id, check.level, check.about) for check in foreign.registry().values()]
    print("\n".join(["The YOLOv7 family (--weights, --arch, --cfg, --model bundled):", *columns(home)]))
    print("\n".join(["", "Any other detector (--model, --against, capture):", *columns(other)]))
    return 0
