"""A Python file of the user's own, imported: the one importer of `--model FILE.py:NAME`. This runs their code."""

from __future__ import annotations

import ast
import atexit
import contextlib
import importlib
import itertools
import sys
import traceback
from pathlib import Path
from types import ModuleType
from typing import Iterator, Optional, Set, Tuple

from detparity.core.errors import InputError
from detparity.core.files import require_file

_used: Set[str] = set()
_OPEN = contextlib.ExitStack()  # an imported file stays so as long as what comes of it runs
atexit.register(_OPEN.close)


def parsed(text: str, file: str) -> ast.Module:
    """Raises InputError for what is no Python."""
    try:
        return ast.parse(text)
    except SyntaxError as error:
        raise InputError(
            f"{file} is not Python that this interpreter reads: {error.msg} (line {error.lineno})"
        ) from None
    except ValueError as error:  # null bytes, before Python 3.12
        raise InputError(f"{file} is not Python that this interpreter reads: {error}") from None


def source(file: str) -> str:
    """The text of a Python file, which parses. Raises InputError."""
    path = Path(file)
    require_file(path, "a Python file")
    try:
        text = path.read_bytes().decode("utf-8")
    except UnicodeDecodeError as error:
        raise InputError(f"{file} is not Python that this interpreter reads: {error.reason}") from None
    parsed(text, file)
    return text


def _names(stem: str) -> Iterator[str]:
    yield stem
    for number in itertools.count(2):
        yield f"{stem}_{number}"


@contextlib.contextmanager
def importable(path: Path) -> Iterator[ModuleType]:
    """A module of the file's name, known to Python for the block, with the file's folder in front of the path."""
    # The compiler goes by names and keeps them for the process: a file that is opened again needs another one.
    name = next(n for n in _names(path.stem) if n not in sys.modules and n not in _used)
    _used.add(name)
    module = ModuleType(name)
    module.__file__ = str(path.resolve())
    before = set(sys.modules)
    paths, writes = list(sys.path), sys.dont_write_bytecode
    sys.path.insert(0, str(path.resolve().parent))
    sys.modules[name] = module
    sys.dont_write_bytecode = True
    try:
        yield module
    finally:
        sys.dont_write_bytecode = writes
        sys.path[:] = paths
        folder = str(path.resolve().parent)
        for other in set(sys.modules) - before:  # the file, and those beside it
            if other == name or str(getattr(sys.modules[other], "__file__", None) or "").startswith(folder):
                del sys.modules[other]


def run(path: Path, text: str, module: ModuleType) -> Optional[Tuple[int, str]]:
    """Run the file; where it raises, the line of the file and the error."""
    file = str(path.resolve())
    try:
        exec(compile(text, file, "exec", dont_inherit=True), module.__dict__)
    except (Exception, SystemExit) as error:  # the user's code raises what it likes
        return line_in(error, file), raised(error)
    return None


def line_in(error: BaseException, file: str) -> int:
    """The last line of the file that an error came through; 0 where it came through none."""
    lines = [frame.lineno for frame in traceback.extract_tb(error.__traceback__) if frame.filename == file]
    return (lines[-1] if lines else 0) or 0


def raised(error: BaseException) -> str:
    """An error in one line of bounded length, with its class."""
    text = " ".join(str(error).split())
    return f"{type(error).__name__}: {text[:200]}" if text else type(error).__name__


def imported(home: str) -> ModuleType:
    """The module of `FILE.py` or `PKG.MOD`. This runs the user's code. Raises InputError."""
    return _file(home) if home.endswith(".py") else _package(home)


def _file(file: str) -> ModuleType:
    path, text = Path(file), source(file)
    module = _OPEN.enter_context(importable(path))
    broke = run(path, text, module)
    if broke:
        raise InputError(f"{file} cannot be imported: line {broke[0]} raised {broke[1]}")
    return module


def _package(name: str) -> ModuleType:
    try:
        return importlib.import_module(name)
    except ImportError as error:
        if isinstance(error, ModuleNotFoundError) and error.name and name.startswith(error.name):
            raise InputError(f"{name}:...: there is no module {error.name} to import") from None
        raise InputError(f"{name} cannot be imported: {raised(error)}") from None
    except (Exception, SystemExit) as error:  # the user's code raises what it likes
        raise InputError(f"{name} cannot be imported: it raised {raised(error)}") from None
