"""A model of the user's own, from their own source file. This runs their code: no other command does, and only for that file."""

from __future__ import annotations

import ast
import contextlib
import sys
from dataclasses import dataclass, field
from pathlib import Path
from types import ModuleType
from typing import Any, Dict, Iterator, List, Mapping, Optional, Tuple

from torch import nn

from detparity.core.errors import InputError
from detparity.models import user_file
from detparity.tools.doctor.call_sites import MODULE, OTHER, made_by_call

RESULTS = ("list", "tuple", "dict", "Tensor", "ScriptList", "ScriptDict")


@dataclass(frozen=True)
class UserModel:
    """What `FILE:NAME` is. model: the module, or None; result: what it is instead of a module, as text;
    value: that thing itself; made: line and callee of the call that returned it; broke: line of the file at which importing it
    ended, and the error; text: its source; known: what its global names hold."""

    path: Path
    name: str
    model: Optional[nn.Module]
    text: str
    result: str = ""
    value: Any = None
    made: Optional[Tuple[int, str]] = None
    broke: Optional[Tuple[int, str]] = None
    known: Mapping[str, str] = field(default_factory=dict)


@contextlib.contextmanager
def opened(spec: str, arguments: Optional[str]) -> Iterator[UserModel]:
    """Import the file of `FILE.py:NAME` and make its model; for the block the file stays imported, as compiling it requires.

    arguments: Python literals as in a call (`80, width=0.5`). Raises InputError where no model comes of it.
    """
    file, _, name = spec.rpartition(":")
    if not file or not name.isidentifier():
        raise InputError(f"--model {spec} is not FILE.py:NAME")
    path, text = Path(file), user_file.source(file)
    given = _arguments(arguments)
    with user_file.importable(path) as module, contextlib.redirect_stdout(sys.stderr):
        broke = user_file.run(path, text, module)
        yield _found(path, name, text, module, given, broke)


def _arguments(text: Optional[str]) -> Tuple[List[Any], Dict[str, Any]]:
    if text is None:
        return [], {}
    try:
        call = ast.parse(f"f({text})", mode="eval").body
        assert isinstance(call, ast.Call)
        positional = [ast.literal_eval(value) for value in call.args]
        return positional, {str(k.arg): ast.literal_eval(k.value) for k in call.keywords}
    except (SyntaxError, ValueError, AssertionError):
        raise InputError(f"--args {text} is not a list of Python literals such as: 80, width=0.5") from None


def _found(
    path: Path,
    name: str,
    text: str,
    module: ModuleType,
    given: Tuple[List[Any], Dict[str, Any]],
    broke: Optional[Tuple[int, str]],
) -> UserModel:
    known = {
        n: MODULE if isinstance(v, nn.Module) else OTHER for n, v in vars(module).items() if not n.startswith("__")
    }
    if name not in vars(module):
        if broke:
            return UserModel(path, name, None, text, broke=broke, known=known)
        raise InputError(f"{path} has no {name}; it has {_offered(module)}")
    value = vars(module)[name]
    if isinstance(value, nn.Module):
        if given != ([], {}):
            raise InputError(f"--args is for a class or a function, and {name} of {path} is a module already")
        return UserModel(path, name, value, text, broke=broke, known=known)
    made = made_by_call(text, name)
    if callable(value) and not _result(value):
        made = None
        value = _call(path, name, value, given)
        if isinstance(value, nn.Module):
            return UserModel(path, name, value, text, broke=broke, known=known)
        if isinstance(vars(module)[name], type):
            raise InputError(f"{name} of {path} is a class, but no torch.nn.Module")
    if not _result(value):
        raise InputError(f"{name} of {path} is a {type(value).__name__}, not a torch.nn.Module")
    return UserModel(path, name, None, text, _described(value), value, made, broke, known)


def _call(path: Path, name: str, make: Any, given: Tuple[List[Any], Dict[str, Any]]) -> Any:
    try:
        return make(*given[0], **given[1])
    except (Exception, SystemExit) as error:  # the user's code raises what it likes
        hint = "" if given != ([], {}) or not isinstance(error, TypeError) else " (--args gives it arguments)"
        raise InputError(f"{name}() of {path} raised {user_file.raised(error)}{hint}") from None


def _offered(module: ModuleType) -> str:
    """The names a user may have intended: classes and instances of modules, in the file's order."""
    own = [
        name
        for name, value in vars(module).items()
        if isinstance(value, nn.Module)
        or (isinstance(value, type) and issubclass(value, nn.Module) and value.__module__ == module.__name__)
    ]
    return ", ".join(own[:8]) if own else "no torch.nn.Module at all"


def _result(value: Any) -> bool:
    """Whether a value is what a detector returns: a tensor, or a container."""
    return any(kind.__name__ in RESULTS for kind in type(value).__mro__)


def _described(value: Any) -> str:
    kind = type(value).__name__
    if kind == "Tensor":
        return f"a Tensor of shape {tuple(value.shape)}"
    inner = sorted({type(item).__name__ for item in (value.values() if hasattr(value, "values") else value)})
    return f"a {kind} of {len(value)} ({', '.join(inner)})" if inner else f"an empty {kind}"
