"""`detparity capture [OPTIONS] -- COMMAND`: run somebody's export command, and judge each file against the module that it exported."""

from __future__ import annotations

import argparse
import json
import os
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import Any, Dict, List

from detparity.cli import capture_command
from detparity.cli.options import (
    add_ci,
    add_display,
    add_images,
    add_precision,
    complain,
    images_of,
    require_images,
    require_pages,
    require_writable,
)
from detparity.core.budget import budget_of
from detparity.core.errors import InputError
from detparity.core.files import STDOUT

INCOMPLETE = 3
PASSED_ON = ("checks", "strict", "max_images", "preprocess", "precision", "budget")
DONE = "done"  # what `capture_child` writes beside the request when there is a verdict


def add(parser: argparse.ArgumentParser) -> None:
    parser.usage = "detparity capture [OPTIONS] -- python export.py ... | python -m MODULE ... | CONSOLE_SCRIPT ..."
    parser.add_argument("--checks", help="run only these checks, by id or group, separated by commas")
    parser.add_argument("--strict", action="store_true", help="SHOULD findings violate as well")
    parser.add_argument("--quick", action="store_true", help="fewer pictures, sizes and draws, to know sooner")
    parser.add_argument("--json", type=Path, metavar="FILE", help="write the report as JSON")
    parser.add_argument("--html", type=Path, metavar="FILE", help="write the report as one HTML page")
    add_ci(parser)
    parser.add_argument(
        "--keep", type=Path, metavar="DIR", help="store the captures there, for `detparity check FILE --capture DIR`"
    )
    add_images(parser)
    add_precision(parser)
    add_display(parser)
    parser.add_argument("line", nargs=argparse.REMAINDER, metavar="COMMAND", help="the command and its arguments")
    parser.set_defaults(run=run)


def run(options: argparse.Namespace) -> int:
    """The command's own exit code, or, where that is 0, the verdict's: 0 conforms, 1 violates, 3 incomplete."""
    outputs = (options.json, options.html, options.junit, options.markdown)
    require_writable(*outputs)
    require_pages(options.html)
    require_images(options)
    images_of(options)
    budget_of(options.budget)
    if options.keep is not None and options.keep.exists() and not options.keep.is_dir():
        raise InputError(f"--keep {options.keep} is no folder")
    line: List[str] = options.line[1:] if options.line[:1] == ["--"] else options.line
    command = capture_command.command_of(line)
    for note in command.notes:
        complain(note)
    with tempfile.TemporaryDirectory(prefix="detparity-") as scratch:
        request = Path(scratch) / "request.json"
        request.write_text(json.dumps({"command": command.as_json(), "options": _options(options)}), encoding="utf-8")
        child = [sys.executable, *command.interpreter, "-m", "detparity.cli.capture_child", str(request)]
        code = _run(child)
        if (Path(scratch) / DONE).exists():
            return code
    how = f"signal {code - 128}" if code > 128 else f"exit code {code}"
    complain(f"the command ended by itself with {how} before its captures could be judged: no verdict")
    return code or INCOMPLETE


def _run(child: List[str]) -> int:
    """Run it in this terminal and this folder; its exit code as a shell gives it. What ends this process ends the command."""
    process = subprocess.Popen(child)
    try:
        code = process.wait()
    except KeyboardInterrupt:  # the terminal has sent it to the command as well
        code = process.wait()
    except BaseException:
        process.terminate()
        process.wait()
        raise
    return 128 - code if code < 0 else code


def _options(options: argparse.Namespace) -> Dict[str, Any]:
    """What the child needs to judge and to report, as JSON has it."""
    found: Dict[str, Any] = {
        name: getattr(options, name)
        for name in (*PASSED_ON, "quick", "quiet", "verbose", "color", "started", "annotations")
    }
    for name in ("json", "html", "junit", "markdown", "keep", "images", "labels", "resume"):
        path = getattr(options, name)
        found[name] = None if path is None else str(path if path == STDOUT else os.path.abspath(path))
    return found
