"""docs/torchscript.md: every fact names a test that is there."""

from __future__ import annotations

import ast
import re
from pathlib import Path

import pytest

pytestmark = pytest.mark.smoke

KIT = Path(__file__).resolve().parents[2]
PAGE = KIT / "docs" / "torchscript.md"


def test_every_named_test_is_there():
    there = {
        node.name
        for path in (KIT / "suites" / "script").glob("test_*.py")
        for node in ast.parse(path.read_text(encoding="utf-8")).body
        if isinstance(node, ast.FunctionDef)
    }
    named = set(re.findall(r"`(test_\w+)`", PAGE.read_text(encoding="utf-8")))

    assert named and named - there == set()


def test_every_fact_names_a_test():
    """In a table whose last column is called `test`."""
    rows, wanting = [line for line in PAGE.read_text(encoding="utf-8").splitlines()], False
    bare = []
    for row in rows:
        if not row.startswith("|"):
            wanting = False
        elif row.endswith("| test |"):
            wanting = True
        elif wanting and not row.startswith("|---") and "`test_" not in row.rsplit("|", 2)[1]:
            bare.append(row)

    assert bare == []
