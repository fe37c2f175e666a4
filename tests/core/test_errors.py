"""Texts of errors in one line."""

from __future__ import annotations

from detparity.core.errors import clipped


def test_one_line_of_bounded_length_without_colours():
    assert clipped(ValueError("step \x1b[96m1/3\x1b[0m\n\x1b[1;31mfailed\x1b[m")) == "step 1/3 failed"
    assert clipped("a" * 400, 300) == "a" * 297 + "..."
