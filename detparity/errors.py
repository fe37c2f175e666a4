"""The one exception for input a user can mend: unusable files, options or models."""

from __future__ import annotations


class InputError(Exception):
    """The input or the options are unusable. `str(error)` is one clear line; the command exits with 2."""
