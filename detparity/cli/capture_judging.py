"""What follows a captured command: the captures are stored where that was asked for, judged, and reported."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Any, Mapping

from detparity.checks import captured
from detparity.cli.options import say
from detparity.core.contract import MUST
from detparity.core.findings import Finding
from detparity.core.text import columns
from detparity.core.verdict import EXIT
from detparity.models.capture import Captures


def judge_captures(captures: Captures, options: Mapping[str, Any], code: int = 0) -> int:
    """Report what was captured, and return the verdict's exit code. options: of `detparity capture`; code: how the command ended."""
    to = sys.stderr if options.get("json") == "-" else sys.stdout
    if options.get("keep"):
        from detparity.models.capture_store import write

        write(captures, Path(options["keep"]))
    try:
        from detparity.checks.foreign import capture_session  # type: ignore[attr-defined, unused-ignore]
    except ImportError:
        return _without_judging(captures, code, to)
    return int(capture_session(captures, options, code))


def _without_judging(captures: Captures, code: int, to: Any) -> int:
    found = list(captured.findings(captures, code))
    missing = captured.missing(captures)
    rows = captured.table(captures)
    if len(rows) > 1:
        say("\n".join(columns(rows)), to=to)
    for finding in found:
        say(f"{finding.message}{_level(finding)}", to=to)
    for reason in missing:
        say(reason, to=to)
    violates = any(finding.level == MUST for finding in found)
    verdict = "violates" if violates else "incomplete"
    say(verdict, to=to)
    return EXIT[verdict]


def _level(finding: Finding) -> str:
    return "" if finding.level == MUST else f" ({finding.level})"
