"""docs/torchscript.md: every fact names a test that is there."""

from __future__ import annotations

import ast
import re

from detparity.core import resources

KIT = resources.root()
PAGE = KIT / "docs" / "torchscript.md"


def test_every_named_test_is_there():
    there = {
        node.name
        for path in (KIT / "tests" / "torch_facts").glob("test_*.py")
        for node in ast.parse(path.read_text(encoding="utf-8")).body
        if isinstance(node, ast.FunctionDef)
    }
    named = set(re.findall(r"`(test_\w+)`", PAGE.read_text(encoding="utf-8")))

    assert named and named - there == set()


def test_every_fact_names_a_test():
    """In a table whose last column is called `test`."""
    bare, wanted = [], False
    for line in PAGE.read_text(encoding="utf-8").splitlines():
        if line.endswith("| test |"):
            wanted = True
        elif not line.startswith("|"):
            wanted = False
        elif wanted and not line.startswith("|---") and "`test_" not in line.rsplit("|", 2)[1]:
            bare.append(line)

    assert bare == []
