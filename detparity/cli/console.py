"""What a judging command shows: results as they fall, on standard output, and progress on stderr.

On a terminal one line of progress is rewritten, and text is fitted to its width and coloured; elsewhere results are plain text, the
same for every width, and with -v each check is a line on stderr. The renderer is our own: rich is no base package, so plain text has
to be made here in any case, and widths, colours and one line are less code than a second presentation.
"""

from __future__ import annotations

import contextlib
import os
import re
import shutil
import sys
import threading
import time
from typing import IO, Any, Callable, Iterator, Mapping, Optional, Sequence

from detparity.core.findings import Outcome
from detparity.core.text import printable
from detparity.reports.style import fitted, painted
from detparity.reports.terminal import artifact_text, engines_table, files_table, headline, verdict_line

CLEAR = "\r\x1b[K"
COMMAND = re.compile(r"^(\s*)(:|#)(?=:|#\[)", re.MULTILINE)  # of GitHub Actions, which a file could quote
EVERY = 0.5  # seconds between two progress lines
TENTHS = 10
LEAST = 40  # columns that text is fitted to at least


class Console:
    """Progress shows between entering and leaving it. options: quiet, verbose, color; out: where results go; started: of
    `core.clock.began`, from which seconds are counted."""

    def __init__(
        self, options: Mapping[str, Any], out: Optional[IO[str]] = None, started: Optional[float] = None
    ) -> None:
        self.quiet, self.verbose = bool(options.get("quiet")), bool(options.get("verbose"))
        self.out = sys.stdout if out is None else out
        self.started = time.monotonic() if started is None else started
        self.tty = _is_terminal(self.out)
        self._coloured = _coloured(options.get("color") or "auto", self.tty)
        self._live = False
        self._title, self._line, self._picture = "", "judging", ""
        self._lock, self._end = threading.RLock(), threading.Event()
        self._count = ""

    def __enter__(self) -> Console:
        self._live = _is_terminal(sys.stderr) and not self.quiet and os.environ.get("TERM") != "dumb"
        if self._live:
            threading.Thread(target=self._refresh, daemon=True).start()
        return self

    def __exit__(self, *_: object) -> None:
        self._end.set()
        with self._lock:
            self._wipe()
            self._live = False

    def seconds(self) -> float:
        """Since the command began."""
        return time.monotonic() - self.started

    def __call__(self, text: str, to: Optional[IO[str]] = None) -> None:
        """Print what may quote a file."""
        stream = self.out if to is None else to
        with self._lock:
            self._wipe()
            shown = "\n".join(map(printable, text.split("\n")))
            if os.environ.get("GITHUB_ACTIONS"):
                shown = COMMAND.sub(r"\1\2 ", shown)
            if self.tty and to is None:
                shown = fitted(shown, max(width_of(stream), LEAST))
            encoding = getattr(stream, "encoding", None) or "utf-8"
            shown = shown.encode(encoding, "replace").decode(encoding)
            print(painted(shown) if self._coloured and to is None else shown, flush=True, file=stream)
            self._draw()

    def stage(self, text: str, title: str = "") -> None:
        """What the command does now; title: the file it does it to, which may be clipped, before the text."""
        with self._lock:
            self._title, self._line, self._picture = title, text, ""
            self._draw()

    def picture(self, number: int, count: int) -> None:
        """The number of the picture that is judged next, of how many: with -v a line after each tenth of many."""
        tenth = max(count // TENTHS, 1)
        if self.verbose and count >= 2 * TENTHS and number % tenth == 0:
            self(f"{self._count}{self._title}: picture {number} of {count}", to=sys.stderr)
        with self._lock:
            self._picture = f", picture {number} of {count}"
            self._draw()

    def files(self, number: int, count: int) -> None:
        """The number of the file that is judged next, of how many."""
        self._count = f"[{number}/{count}] " if count > 1 else ""

    @contextlib.contextmanager
    def checks(self, title: str, names: Sequence[str]) -> Iterator[Callable[[Outcome], None]]:
        """Progress over the checks of one file; what it gives is called with each outcome, in order."""
        done = 0

        def show() -> None:
            if done < len(names):
                self.stage(f": check {done + 1} of {len(names)}, {names[done]}", title)

        def step(outcome: Outcome) -> None:
            nonlocal done
            done += 1
            if self.verbose:
                where = f"{self._count}{title}: check {done} of {len(names)}"
                self(f"{where}, {outcome.check}: {outcome.outcome}, {outcome.seconds:.1f} s", to=sys.stderr)
            show()

        show()
        yield step
        self.stage("")

    def verdict(self, entry: Mapping[str, Any], strict: bool = False) -> None:
        """A file's verdict: all of it, or its headline."""
        self(headline(entry, strict) if self.quiet else artifact_text(entry, strict))

    def summary(self, report: Mapping[str, Any]) -> None:
        """The last lines: a table over several files, where somebody looks at it, and the verdict."""
        self.stage("")
        if report.get("engines"):
            self("\n".join(engines_table(report)) + "\n")
        elif len(report["artifacts"]) > 1 and not self.quiet and (self.tty or self.verbose):
            self("\n".join(files_table(report)) + "\n")
        self(verdict_line(report))

    def _refresh(self) -> None:
        while not self._end.wait(EVERY):
            with self._lock:
                self._draw()

    def _draw(self) -> None:
        if self._live and self._line and not self._end.is_set():
            left = width_of(sys.stderr) - 1
            line = f"{printable(self._line)}{self._picture}, {self.seconds():.0f} s"
            if self._title:
                most = max(left - len(self._count) - len(line), 8)
                line = self._count + printable(self._title, most) + line
            _write(CLEAR + line[:left])

    def _wipe(self) -> None:
        if self._live:
            _write(CLEAR)


def _write(text: str) -> None:
    with contextlib.suppress(OSError, ValueError):  # stderr is closed: no progress can be shown
        sys.stderr.write(text)
        sys.stderr.flush()


def width_of(stream: IO[str]) -> int:
    """Columns of the terminal that a stream is: COLUMNS, where it is set."""
    if not os.environ.get("COLUMNS"):
        with contextlib.suppress(OSError, ValueError, AttributeError):
            return os.get_terminal_size(stream.fileno()).columns or 80
    return shutil.get_terminal_size((80, 24)).columns


def _is_terminal(stream: IO[str]) -> bool:
    with contextlib.suppress(ValueError, AttributeError):
        return stream.isatty()
    return False


def _coloured(when: str, tty: bool) -> bool:
    if when != "auto":
        return when == "always"
    return tty and not os.environ.get("NO_COLOR") and os.environ.get("TERM") != "dumb"
