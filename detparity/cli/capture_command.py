"""The command that `detparity capture` runs: read from its words, and run inside this interpreter as the shell would run it."""

from __future__ import annotations

import io
import os
import re
import runpy
import shutil
import sys
import types
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, Dict, List, Mapping, Optional, Sequence, Tuple

from detparity.core.errors import InputError

PYTHON = re.compile(r"python(\d+(\.\d+)*)?(\.exe)?")
_FLAGS = re.compile(r"-[bBdEiIOPqRsSuvx]+")
_ADVICE = "give `python FILE.py`, `python -m MODULE` or a console script of this environment"


@dataclass(frozen=True)
class Command:
    """sort: "script", "module", "code" or "entry" (a console script); target: its file, module, text or entry point; program: what
    the command calls itself; interpreter: options of Python; notes: what differs from the command as it was given."""

    sort: str
    target: str
    program: str
    arguments: Tuple[str, ...]
    interpreter: Tuple[str, ...] = ()
    notes: Tuple[str, ...] = ()

    def as_json(self) -> Dict[str, Any]:
        return asdict(self)


def from_json(found: Mapping[str, Any]) -> Command:
    values: Dict[str, Any] = {key: tuple(value) if isinstance(value, list) else value for key, value in found.items()}
    return Command(**values)


def command_of(words: Sequence[str]) -> Command:
    """Raises InputError for what is no Python command of this environment."""
    if not words:
        raise InputError("no command to run: detparity capture [OPTIONS] -- python export.py ...")
    first, rest = words[0], list(words[1:])
    if PYTHON.fullmatch(os.path.basename(first)):
        return _python(first, rest)
    if first.endswith(".py") and os.path.isfile(first):
        return Command("script", first, first, tuple(rest))
    found = shutil.which(first)
    name = Path(first).name
    entry = _entry_point(name[:-4] if name.endswith(".exe") else name)
    if entry is not None:
        return Command("entry", entry, found or first, tuple(rest))
    if found is not None and _is_ours(found):
        return Command("script", found, found, tuple(rest))
    if found is None:
        raise InputError(f"there is no command {first!r}: {_ADVICE}")
    raise InputError(
        f"{first} is no Python command of this environment, and capture sees inside Python alone: {_ADVICE}"
    )


def _python(first: str, rest: List[str]) -> Command:
    notes = _interpreter_notes(first)
    options: List[str] = []
    while rest and rest[0].startswith("-"):
        word = rest.pop(0)
        if word in ("-m", "-c"):
            if not rest:
                raise InputError(f"{first} {word} needs an argument")
            target = rest.pop(0)
            return Command("module" if word == "-m" else "code", target, word, tuple(rest), tuple(options), notes)
        if word in ("-W", "-X") and rest:
            options += [word, rest.pop(0)]
        elif _FLAGS.fullmatch(word) or word.startswith(("-W", "-X")):
            options.append(word)
        else:
            raise InputError(f"the option {word} of {first} cannot be used under capture: {_ADVICE}")
    if not rest:
        raise InputError(f"{first} would read its program from the terminal: {_ADVICE}")
    if not os.path.exists(rest[0]):
        raise InputError(f"there is no script {rest[0]}")
    return Command("script", rest[0], rest[0], tuple(rest[1:]), tuple(options), notes)


def _interpreter_notes(first: str) -> Tuple[str, ...]:
    """The command is run by the interpreter of detparity: what that is, where the command's own is another."""
    found = shutil.which(first)
    if found is None or os.path.dirname(os.path.abspath(found)) == os.path.dirname(os.path.abspath(sys.executable)):
        return ()
    if os.path.samefile(found, sys.executable) and sys.prefix == sys.base_prefix:
        return ()
    if os.path.dirname(first):
        raise InputError(
            f"{first} is another interpreter than that of detparity: "
            f"run `{first} -m detparity.cli.main capture ...`, with detparity installed there"
        )
    return (f"`{first}` is {found} in this shell; the command is run by {sys.executable}",)


def _entry_point(name: str) -> Optional[str]:
    from importlib import metadata  # a tenth of what starting costs, where no console script is run

    points: Any = metadata.entry_points()
    if hasattr(points, "select"):
        chosen = points.select(group="console_scripts", name=name)
    else:  # Python 3.9
        chosen = [one for one in points.get("console_scripts", ()) if one.name == name]
    return next((str(one.value) for one in chosen), None)


def _is_ours(path: str) -> bool:
    """Whether a file is a script for this interpreter."""
    with open(path, "rb") as stream:
        line = stream.readline(500).decode("utf-8", "replace")
    words = line[2:].split() if line.startswith("#!") else []
    if not words:
        return False
    program = words[1] if os.path.basename(words[0]) == "env" and len(words) > 1 else words[0]
    same = os.path.dirname(program) in ("", os.path.dirname(sys.executable))
    return same and PYTHON.fullmatch(os.path.basename(program)) is not None


def execute(command: Command) -> None:
    """Run it in this process. Whatever the command raises is raised, SystemExit included."""
    sys.argv = [command.program, *command.arguments]
    if command.sort == "module":
        _first_on_path(os.getcwd())
        runpy.run_module(command.target, run_name="__main__", alter_sys=True)
        return
    main = types.ModuleType("__main__")
    main.__dict__["__builtins__"] = __builtins__
    sys.modules["__main__"] = main
    if command.sort == "code":
        _first_on_path("")
        exec(compile(command.target, "<string>", "exec"), main.__dict__)
    elif command.sort == "entry":
        _first_on_path(os.path.dirname(os.path.realpath(command.program)))
        main.__file__ = command.program
        from importlib import metadata

        sys.exit(metadata.EntryPoint("main", command.target, "console_scripts").load()())
    else:
        _run_file(command.target, main)


def _run_file(path: str, main: types.ModuleType) -> None:
    if os.path.isdir(path) or path.endswith((".zip", ".pyz")):
        runpy.run_path(path, run_name="__main__")
        return
    _first_on_path(os.path.dirname(os.path.realpath(path)))
    main.__file__ = os.path.abspath(path)
    main.__dict__["__cached__"] = None
    with io.open_code(main.__file__) as stream:
        text = stream.read()
    exec(compile(text, main.__file__, "exec"), main.__dict__)


def _first_on_path(folder: str) -> None:
    """What Python puts first on its path for a program, where it is not asked to leave that out."""
    if not (sys.flags.isolated or getattr(sys.flags, "safe_path", False)):
        sys.path[0:1] = [folder]
