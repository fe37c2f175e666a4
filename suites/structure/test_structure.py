"""Whether exporters make their files, and every structure check on every artifact: the bundled detector's exports, or the files
given with --artifact."""

from __future__ import annotations

GROUPS = ["export", "structure"]


def test_promise(promise, judge):
    """Red where the file breaks its promise; judge fails with the check's own finding."""
    judge(promise)
