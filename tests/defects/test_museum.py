"""docs/museum.md: every entry is a planted file or a test that is there, and the checks it names are those that must turn red."""

from __future__ import annotations

import re
from pathlib import Path

import pytest
from detparity.kit.tests.defects.registry import registry

pytest.importorskip("torch", minversion="1.13")  # of the planted files of any detector
from detparity.kit.tests.checks.foreign import registry as foreign

ROOT = Path(__file__).resolve().parents[2]
ROW = re.compile(r"^\| (\d\d\d? \S+) \| ([^|]+) \| ([^|]+) \| ([^|]*) \|$")
NAME = re.compile(r"`([a-z_]+)`")
CHECK = re.compile(r"`([a-z]+\.[a-z-]+)`")
TEST = re.compile(r"`(tests/[a-z0-9_/]+\.py)::(\w+)`")


def _rows():
    lines = (ROOT / "docs" / "museum.md").read_text(encoding="utf-8").splitlines()
    return [match.groups() for match in map(ROW.match, lines) if match]


def test_every_entry_is_there():
    rows = _rows()
    entries = [entry for entry, *_ in rows if re.match(r"\d\d\d ", entry)]

    assert [int(entry[:3]) for entry in entries] == list(range(1, 107))
    assert len(rows) == 106 + 15


def test_what_is_named_exists_and_turns_those_checks_red():
    home, others = registry(), foreign.registry()
    wrong = []
    for entry, _, planted, red in _rows():
        if planted.startswith("cannot be planted: "):
            continue
        names, tests = NAME.findall(planted), TEST.findall(planted)
        known = set()
        for name in names:
            known |= set(home[name].caught_by) if name in home else {others[name].check} if name in others else {name}
        wrong += [(entry, check) for check in known ^ set(CHECK.findall(red))]
        wrong += [
            (entry, name) for path, name in tests if f"def {name}(" not in (ROOT / path).read_text(encoding="utf-8")
        ]
        assert names or tests, entry
    assert wrong == []
