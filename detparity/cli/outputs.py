"""The reports of a judging command for files and for CI services."""

from __future__ import annotations

import argparse
import json
import os
import sys
from pathlib import Path
from typing import Any, Callable, Dict, Tuple

from detparity.cli.options import SUMMARY, say
from detparity.core.errors import InputError
from detparity.core.files import STDOUT, write_text
from detparity.reports import annotate, junit, markdown


def write_reports(found: Dict[str, Any], options: argparse.Namespace) -> None:
    """Write every report that can be written; raises InputError, afterwards, for one that cannot."""
    problems = []
    pages: Tuple[Tuple[Any, Callable[[Dict[str, Any]], str]], ...] = (
        (options.json, _json),
        (options.html, _html),
        (options.junit, junit.page),
        (options.markdown, markdown.page),
    )
    for path, page in pages:
        if path is not None:
            try:
                write_text(path, _before(path) + page(found))
            except InputError as error:
                problems.append(str(error))
    if options.annotations:
        to = sys.stderr if STDOUT in [path for path, _ in pages] else sys.stdout
        for line in annotate.lines(found):
            say(line, to=to)
    if problems:
        raise InputError("; ".join(problems))


def _before(path: Path) -> str:
    """What the summary of a job holds already."""
    summary = os.environ.get(SUMMARY)
    if not summary or path == STDOUT or path.resolve() != Path(summary).resolve():
        return ""
    try:
        return path.read_text(encoding="utf-8")
    except (OSError, ValueError):
        return ""


def _json(found: Dict[str, Any]) -> str:
    return json.dumps(found, indent=1) + "\n"


def _html(found: Dict[str, Any]) -> str:
    from detparity.reports.html import page

    return page(found)
