"""The process that times a user's files for `detparity bench`: it can write nowhere but in the folder of its first argument."""

from __future__ import annotations

import json
import os
import sys
import tempfile
from pathlib import Path
from typing import Any, Dict, List

from detparity.cli import bench
from detparity.cli.options import Parser, complain
from detparity.core import landlock
from detparity.core.errors import InputError


def main(words: List[str]) -> int:
    scratch = Path(words[0])
    os.environ["TMPDIR"] = tempfile.tempdir = str(scratch)
    try:
        landlock.confine(scratch, programs=True)  # what a cold start costs is measured in a program of its own
    except (OSError, AttributeError) as error:
        complain(f"the files are timed unconfined: {error}")
    parser = Parser(prog="detparity bench")
    bench.add(parser)
    found: Dict[str, Any]
    try:
        found = bench.measured(parser.parse_args(words[2:]), scratch)
    except InputError as error:
        found = {"unusable": str(error)}
    (scratch / bench.ANSWER).write_text(json.dumps(found), encoding="utf-8")
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
