"""Errors used across the package: input that a user can correct, a file that an exporter did not make, and an engine that refused a
file or ended over it."""

from __future__ import annotations

import re
from typing import Sequence, Tuple

COLOUR = re.compile(r"\x1b\[[0-9;]*[A-Za-z]")  # of a terminal, which exporters put into exceptions


class InputError(Exception):
    """The input or the options are unusable. `str(error)` is one clear line; the command exits with 2. more: lines that may follow it
    on a terminal, such as the options that would do."""

    def __init__(self, text: str, more: Sequence[str] = ()) -> None:
        super().__init__(text)
        self.more = tuple(more)


class NotMade(Exception):
    """An exporter made no file. missing: the version has no such exporter, which is no failure of the one it has."""

    def __init__(self, reason: str, missing: bool) -> None:
        super().__init__(reason)
        self.missing = missing


class EngineError(Exception):
    """An engine refused to load or to run an artifact; the text is the engine's own reason, in one line."""


class EngineDied(Exception):
    """The process of an engine, or of onnx, ended or was ended over an artifact: no refusal, but a defect of the file or a limit of
    this machine. how: as `core.isolate.Died` has it; the text is a clause about the file, such as `crashes the process (SIGSEGV) while
    it runs`; seconds: the limit of time it had; printed: the last lines that process printed."""

    def __init__(self, how: str, text: str, seconds: float = 0.0, printed: Tuple[str, ...] = ()) -> None:
        super().__init__(text)
        self.how = how
        self.seconds = seconds
        self.printed = printed


def clipped(error: object, limit: int = 300) -> str:
    """A text, such as an error's, in one line of bounded length: it may quote a file, and a file may hold anything."""
    text = " ".join(COLOUR.sub("", str(error)).split())
    return text if len(text) <= limit else text[: limit - 3] + "..."
