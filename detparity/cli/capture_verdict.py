"""What follows a captured command: the captures are stored where that was asked for, judged, and reported."""

from __future__ import annotations

import argparse
import sys
from pathlib import Path
from typing import Any, Dict, Mapping

from detparity.checks import captured
from detparity.cli.console import Console
from detparity.cli.outputs import write_reports
from detparity.core.contract import MUST
from detparity.core.text import columns
from detparity.core.verdict import EXIT, overall
from detparity.models.capture import Captures


def judge_captures(captures: Captures, options: Mapping[str, Any], code: int = 0) -> int:
    """Report what was captured, and return the verdict's exit code. options: of `detparity capture`; code: how the command ended."""
    to = sys.stderr if "-" in (options.get(name) for name in ("json", "html", "junit", "markdown")) else sys.stdout
    with Console(options, to, options.get("started")) as console:
        return _judged(captures, options, code, console)


def _judged(captures: Captures, options: Mapping[str, Any], code: int, console: Console) -> int:
    """Store, judge and report; the verdict's exit code."""
    if options.get("keep"):
        from detparity.models.capture_store import write

        write(captures, Path(options["keep"]))
    rows = captured.table(captures)
    if len(rows) > 1:
        console("\n".join(columns(rows)) + "\n")
    verdicts = [_calls_verdict(captures, code, console)]
    if any(captured.judged_here(path) for call in captures for path in call.files):
        # It imports torch, which a command that exports nothing need not wait for.
        from detparity.cli.capture_judging import judge_files

        found = judge_files(captures, options, console)
        verdicts.append(found["verdict"])
        found["verdict"] = overall([verdict for verdict in verdicts if verdict])
        _write_reports(found, options)
    worst = overall([verdict for verdict in verdicts if verdict])
    if len(verdicts) == 1 or worst != verdicts[-1]:
        console(f"Verdict of the command: {worst}")
    return EXIT[worst]


def _calls_verdict(captures: Captures, code: int, show: Console) -> str:
    """Say what the calls show before a file is judged; its verdict, empty where they show nothing against it."""
    found = list(captured.findings(captures, code))
    missing = captured.missing(captures)
    for finding in found:
        show(finding.message + ("" if finding.level == MUST else f" ({finding.level})"))
    for reason in missing:
        show(reason)
    if any(finding.level == MUST for finding in found):
        return "violates"
    return "incomplete" if missing else ""


def _write_reports(found: Dict[str, Any], options: Mapping[str, Any]) -> None:
    paths = {name: Path(options[name]) if options.get(name) else None for name in ("json", "html", "junit", "markdown")}
    write_reports(found, argparse.Namespace(**paths, annotations=options.get("annotations")))
