"""`detparity diff`: say what changed between two ONNX files."""

from __future__ import annotations

import argparse
import json
from pathlib import Path

from detparity.cli.options import require_pages, require_writable, say


def add(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("a", type=Path, metavar="A.onnx", help="what it was")
    parser.add_argument("b", type=Path, metavar="B.onnx", help="what it is now")
    parser.add_argument("--json", type=Path, metavar="FILE", help="write the comparison as JSON")
    parser.add_argument("--html", type=Path, metavar="FILE", help="write it as one HTML page")
    parser.set_defaults(run=run)


def run(options: argparse.Namespace) -> int:
    """Exit codes: 0 no difference, 1 they differ, 2 unusable input."""
    from detparity.core.files import write_text
    from detparity.tools.diff import report

    require_writable(options.json, options.html, reads=[options.a, options.b])
    require_pages(options.html)
    found = report.diff(options.a, options.b)
    if options.json is not None:
        write_text(options.json, json.dumps(report.record(found), indent=1) + "\n")
    if options.html is not None:
        from detparity.tools.diff.html import page

        write_text(options.html, page(found))
    say(report.text(found))
    return 0 if found.same else 1
