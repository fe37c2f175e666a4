"""Every golden of the bundled detector's exports. Fails where one is missing or differs; nothing is accepted here."""

from __future__ import annotations


def test_golden(golden_case, golden):
    """golden fails with what changed and the command to review it."""
    golden(golden_case)
