"""The `detparity` command. Exit codes: 0 conforms, 1 violates, 2 unusable input, 3 incomplete, 70 internal error,
130 interrupted, 143 terminated."""

from __future__ import annotations

import argparse
import atexit
import contextlib
import importlib
import os
import re
import signal
import sys
import threading
from typing import Callable, Dict, Iterator, List, Mapping, NoReturn, Optional, Sequence, Tuple

from detparity.cli import project
from detparity.cli.options import Parser, complain, nearest, say
from detparity.core.clock import began
from detparity.core.errors import EngineDied, InputError
from detparity.core.garbage import collect_less
from detparity.core.version import __version__

UNUSABLE, INTERNAL, INTERRUPTED, TERMINATED = 2, 70, 130, 143

# Subcommand: its module of this package, and its line of help. A module is imported when its subcommand is the one that was given.
SUBCOMMANDS: Mapping[str, Tuple[str, str]] = {
    "check": ("check", "judge exported files against their model"),
    "capture": ("capture", "run an export script, and judge what it exports"),
    "locate": ("locate", "say in which module and at which node a file goes wrong"),
    "mutate": ("mutate", "change a file that conforms, and say which changes no check sees"),
    "power": ("power", "say which errors the verdict on a file would have seen, layer by layer"),
    "replay": ("replay", "repeat what `locate --bundle` wrote"),
    "export": ("export", "export a detector to TorchScript and ONNX"),
    "diff": ("diff", "say what changed between two ONNX files"),
    "golden": ("golden", "record goldens of your own exports, and compare the next release"),
    "review": ("review", "review goldens that changed: list, show, accept, reject"),
    "bench": ("bench", "time exported files against their model, interleaved"),
    "preprocess": ("preprocess", "say what was done to a picture before it became a tensor"),
    "matrix": ("matrix", "merge the reports of many environments into one table"),
    "script-doctor": ("doctor", "say why a model does not script, and what works instead"),
    "scaling": ("scaling", "measure how cost grows with size, batch, candidates, classes, threads"),
    "init": ("init", "write a CI job, a test, known failures and settings for your project"),
    "completion": ("completion", "print the completion of a shell"),
    "cache": ("cache", "show or clear the references that are stored for later runs"),
    "models": ("models", "list every architecture with its size"),
    "checks": ("checks", "list every check with its level"),
    "explain": ("explain", "why a check matters, what usually causes its finding, how to fix it"),
    "shims": ("shims", "list every compatibility shim with the versions that need it"),
}


class Terminated(BaseException):
    """SIGTERM, so that what is open is closed on the way out."""


def main(arguments: Optional[Sequence[str]] = None) -> int:
    """Run the command and return its exit code. Whatever goes wrong is one line on stderr."""
    words = sys.argv[1:] if arguments is None else list(arguments)
    if arguments is None:
        collect_less()
    return guarded(lambda: _run(words, arguments is None), arguments is None)


def _run(words: List[str], as_command: bool) -> int:
    options = _parsed(words)
    options.words, options.as_command, options.started = words, as_command, began(as_command)
    return int(options.run(options))


def guarded(run: Callable[[], int], as_command: bool = False) -> int:
    """Run it and return its exit code. Whatever goes wrong is one line on stderr. as_command: whether this process ends with it."""
    try:
        with _terminated():
            return run()
    except InputError as error:
        complain(str(error))
        for line in error.more:
            say(line, to=sys.stderr)
    except EngineDied as error:
        complain(f"a file {error}")
    except BrokenPipeError:
        # The reader of our output has ended: there is nothing to print, and the interpreter must not try again at exit.
        with contextlib.suppress(OSError, ValueError):
            os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
    except KeyboardInterrupt:
        complain("interrupted")
        return _leave(INTERRUPTED) if as_command else INTERRUPTED
    except Terminated:
        complain("terminated")
        return TERMINATED
    except OSError as error:
        named = f": {error.filename}" if error.filename else ""
        complain(f"the system refuses to go on{named}: {error.strerror or error}")
    except MemoryError:
        complain("this needs more memory than there is")
    except Exception as error:
        _report(error)
        return INTERNAL
    return UNUSABLE


def _leave(code: int) -> NoReturn:
    """End this process with an exit code. By itself Python dies by SIGINT, whatever is returned here, where the signal came while a
    library's compiled part ran Python code, as torch does when it is imported."""
    atexit._run_exitfuncs()
    for stream in (sys.stdout, sys.stderr):
        with contextlib.suppress(OSError, ValueError):
            stream.flush()
    os._exit(code)


def complete_parser() -> Parser:
    """The parser with the options of every subcommand, for completion."""
    parser, parsers = _parser()
    for name in parsers:
        _fill(name, parsers)
    return parser


def _parser() -> Tuple[Parser, Dict[str, Parser]]:
    """The parser of the command, and those of its subcommands, without their options yet."""
    parser = Parser(prog="detparity", description="Does the exported detector still do what the model does?")
    parser.add_argument("--version", action="version", version=f"detparity {__version__}")
    commands = parser.add_subparsers(dest="command", required=True, parser_class=Parser, metavar="COMMAND")
    return parser, {name: commands.add_parser(name, help=about) for name, (_, about) in SUBCOMMANDS.items()}


def _fill(name: str, parsers: Mapping[str, Parser]) -> None:
    """Add a subcommand's options to its parser."""
    importlib.import_module(f"detparity.cli.{SUBCOMMANDS[name][0]}").add(parsers[name])


def _parsed(words: List[str]) -> argparse.Namespace:
    """The options. Raises InputError, with the nearest name there is, for an option or a subcommand that is not known."""
    parser, parsers = _parser()
    given = next((word for word in words if not word.startswith("-")), "")
    if not words:
        parser.print_help()
        raise SystemExit(0)
    if given not in parsers:
        if given:
            parser.error(f"there is no command {given!r}{nearest(given, list(parsers))}")
        parser.parse_args(words)
    _fill(given, parsers)
    options, unknown = parser.parse_known_args(words)
    if unknown:
        chosen = _deepest(parsers[given], words)
        wrong = next((word for word in unknown if word.startswith("-")), unknown[0])
        near = nearest(wrong.split("=")[0], chosen.option_names())
        chosen.error(f"unrecognized arguments: {' '.join(unknown)}{near}")
    if given in project.COMMANDS:
        _configure(options, parsers[given])
    return options


def _configure(options: argparse.Namespace, parser: Parser) -> None:
    """What the current folder's pyproject.toml sets, stated on stderr."""
    table = project.settings()
    done = project.apply(options, parser, table) if table else []
    if done and not options.quiet:
        complain(f"{project.FILE} sets {', '.join(done)}")


def _deepest(parser: Parser, words: List[str]) -> Parser:
    """The parser of the last subcommand that was given."""
    for word in words:
        parser = parser.subparsers().get(word, parser)
    return parser


@contextlib.contextmanager
def _terminated() -> Iterator[None]:
    """SIGTERM raises in the main thread, as SIGINT does. In another thread, where no handler can be set, it acts as before."""
    if threading.current_thread() is not threading.main_thread():
        yield
        return

    def end(*_: object) -> NoReturn:
        raise Terminated

    before = signal.signal(signal.SIGTERM, end)
    try:
        yield
    finally:
        signal.signal(signal.SIGTERM, before)


def _report(error: Exception) -> None:
    """An error of our own: one line, and a file with the trace."""
    import tempfile
    import traceback

    text = "".join(traceback.format_exception(type(error), error, error.__traceback__))
    first = re.sub(r"\s+", " ", f"{type(error).__name__}: {error}")[:200]
    try:
        handle, name = tempfile.mkstemp(prefix="detparity-error-", suffix=".txt")
        with os.fdopen(handle, "w", encoding="utf-8", errors="backslashreplace") as stream:
            stream.write(f"detparity {__version__}, Python {sys.version}\n{' '.join(sys.argv)}\n\n{text}")
        where = f"please report it with the trace in {name}"
    except OSError:
        where = "please report it; its trace could not be written"
    complain(f"internal error ({first}); {where}")


if __name__ == "__main__":
    sys.exit(main())
