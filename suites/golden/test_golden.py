"""Every golden of the bundled detector's exports. Red where one is missing or says something else; nothing is blessed here."""

from __future__ import annotations


def test_golden(golden_case, golden):
    """golden fails with what changed, in words, and says how to review it."""
    golden(golden_case)
