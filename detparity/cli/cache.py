"""`detparity cache`: what is stored of references for later runs."""

from __future__ import annotations

import argparse
from pathlib import Path

from detparity.core.errors import InputError


def add(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--cache", type=Path, metavar="DIR", help="the folder (default: your caches)")
    parser.add_argument("--clear", action="store_true", help="remove every entry")
    parser.set_defaults(run=run)


def run(options: argparse.Namespace) -> int:
    from detparity.core.array_cache import ArrayCache, default_folder
    from detparity.core.text import columns

    cache = ArrayCache(options.cache or default_folder())
    if cache.folder.exists() and not cache.folder.is_dir():
        raise InputError(f"--cache {cache.folder} is no folder")
    if options.clear:
        print(f"{cache.clear()} entries removed from {cache.folder}")
        return 0
    rows = [
        ("folder", str(cache.folder)),
        ("entries", f"{len(cache.entries())}, each what is known of one picture under one model"),
        ("size", f"{cache.nbytes() / 1e6:.1f} MB of at most {cache.limit / 1e6:.0f} MB; the longest unused go first"),
    ]
    print("\n".join(columns(rows, "")))
    return 0
