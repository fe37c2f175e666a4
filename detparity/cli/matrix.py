"""`detparity matrix`: merge the reports of many environments into one table."""

from __future__ import annotations

import argparse
from pathlib import Path
from typing import Dict

from detparity.cli.options import (
    require_writable,
    say,
)


def add(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "reports", type=Path, nargs="+", metavar="REPORT", help="reports of check, matrices, or folders that hold them"
    )
    parser.add_argument("--markdown", type=Path, metavar="FILE", help="write the table as Markdown (default: print it)")
    parser.add_argument("--html", type=Path, metavar="FILE", help="write the table as one HTML page")
    parser.add_argument("--json", type=Path, metavar="FILE", help="write the table as JSON, to be merged again")
    parser.add_argument(
        "--expect", metavar="LANES", help="lanes that must have a report, such as py39-torch1.7,py313-torch2.15"
    )
    parser.set_defaults(run=run)


def run(options: argparse.Namespace) -> int:
    from detparity.core.verdict import exit_code
    from detparity.reports.matrix import html as matrix_html
    from detparity.reports.matrix import markdown, model, read
    from detparity.reports.matrix.view import counts

    asked = {"--markdown": options.markdown, "--html": options.html, "--json": options.json}
    outputs = {name: path for name, path in asked.items() if path is not None}
    require_writable(*outputs.values(), reads=[path for path in options.reports if not path.is_dir()])
    expected = [] if options.expect is None else options.expect.split(",")
    lanes = [model.require_lane(name.strip()) for name in expected]
    merged = model.merge(read.read(options.reports, tuple(outputs.values())), lanes)
    pages = {"--markdown": markdown.page, "--html": matrix_html.page, "--json": model.to_json}
    texts = {path: pages[name](merged) for name, path in outputs.items()}  # all of them, before the first is written
    _write_pages(texts, markdown.page(merged) if not texts else "")
    if texts:
        print(f"Verdict: {merged.verdict} ({counts(merged)})")
    return exit_code(merged.verdict)


def _write_pages(texts: Dict[Path, str], shown: str) -> None:
    from detparity.core.files import write_text

    for path, text in texts.items():
        write_text(path, text)
        print(f"wrote {path}")
    say(shown, end="")
