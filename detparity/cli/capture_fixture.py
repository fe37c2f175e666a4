"""`with detparity.capture() as exports`: captures inside somebody's own test."""

from __future__ import annotations

import contextlib
import io
from typing import Any, Dict, Iterator, List, Optional

from detparity.models.capture import Captures, capturing


class Exports:
    """The exports of a block."""

    def __init__(self) -> None:
        self._captures: Optional[Captures] = None

    @property
    def captures(self) -> Captures:
        """The calls of exporting functions, once the block has ended."""
        if self._captures is None:
            raise RuntimeError("the block of detparity.capture() has not ended")
        return self._captures

    def verify(
        self,
        checks: Optional[str] = None,
        strict: bool = False,
        quick: bool = False,
        precision: Optional[str] = None,
        budget: str = "",
    ) -> Dict[str, Any]:
        """Judge every file as it lies now, and return the report, as `detparity check --json` has it. The arguments are the options of
        `detparity check`.

        Raises AssertionError, with every decisive finding, where a file violates, an export failed and was passed over, or something
        could not be judged.
        """
        __tracebackhide__ = True
        from detparity.checks import captured
        from detparity.cli.capture_judging import judge_files
        from detparity.cli.console import Console

        texts: List[str] = [finding.message for finding in captured.findings(self.captures) if finding.level == "MUST"]
        texts += captured.missing(self.captures)
        found: Dict[str, Any] = {"verdict": "incomplete", "artifacts": []}
        shown = io.StringIO()
        if any(call.files for call in self.captures):
            asked: Dict[str, Any] = {"checks": checks, "strict": strict, "quick": quick}
            options = {**asked, "precision": precision, "budget": budget}
            found = judge_files(self.captures, options, Console({}, shown))
        if texts or found["verdict"] != "conforms":
            raise AssertionError("\n".join([*texts, shown.getvalue()]))
        return found


@contextlib.contextmanager
def capture_exports() -> Iterator[Exports]:
    exports = Exports()
    with capturing() as captures:
        try:
            yield exports
        finally:
            exports._captures = captures
