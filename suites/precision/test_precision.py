"""Every precision check on every artifact: the bundled detector's exports, or the files given with --artifact."""

from __future__ import annotations

GROUPS = ["precision"]


def test_promise(promise, judge):
    """Fails with the check's own finding where the file breaks its promise."""
    judge(promise)
