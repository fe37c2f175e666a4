"""The one exception for input a user can mend: unusable files, options or models."""

from __future__ import annotations


class InputError(Exception):
    """The input or the options are unusable. `str(error)` is one clear line; the command exits with 2."""


def clipped(error: object, limit: int = 300) -> str:
    """A text, such as an error's, in one line of bounded length: it may quote a file, and a file may hold anything."""
    text = " ".join(str(error).split())
    return text if len(text) <= limit else text[: limit - 3] + "..."
