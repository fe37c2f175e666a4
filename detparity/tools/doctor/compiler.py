"""Which submodules keep a model from being scripted, and why: each of them is compiled on its own.

torch.jit.script stops at its first error. Here every submodule is compiled bottom-up; one that fails is replaced by a stand-in
(`standin`), so that its parent fails for its own code and not for its child's. A module that scripts is searched for Python calls,
which cannot be saved.
"""

from __future__ import annotations

import ast
import inspect
import io
import linecache
import sysconfig
import types
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any, Callable, Dict, Iterator, List, Mapping, Optional, Sequence, Tuple

import torch
from torch import nn

from detparity.models.compat import jit
from detparity.tools.doctor import source, source_facts, standin
from detparity.tools.doctor.causes import CompilerError, Failure, Location, Mistake, kind_of, taken_apart
from detparity.tools.doctor.model_facts import facts_of

FunctionModifiers = torch._jit_internal.FunctionModifiers
MARKS = {str(FunctionModifiers.IGNORE): "ignored", str(FunctionModifiers.UNUSED): "unused"}
MOST_TRIES = 24  # compilations of one module with other guesses of what its stand-ins return
CONTAINERS = (nn.ModuleList, nn.ModuleDict, nn.ParameterList, nn.ParameterDict)


@dataclass(frozen=True)
class Examination:
    """failures: in the order the compiler meets them, the one it stops at first; unused: calls of methods marked unused;
    modules: how many submodules there are, the model itself included."""

    failures: Tuple[Failure, ...]
    unused: Tuple[Mistake, ...]
    modules: int


@dataclass
class _Work:
    """One examination. name_of: a source file as a person would name it; done: what each module is replaced by, by id."""

    name_of: Callable[[str], str]
    failures: List[Failure] = field(default_factory=list)
    unused: List[Mistake] = field(default_factory=list)
    done: Dict[int, nn.Module] = field(default_factory=dict)
    made: Dict[int, Tuple[nn.Module, standin.Interface, type]] = field(default_factory=dict)  # stand-ins, by id
    kinds: standin.Kinds = field(default_factory=dict)
    functions: Dict[type, List[Tuple[str, str, Any]]] = field(default_factory=dict)  # what was read of a class


def examine(model: nn.Module, name_of: Callable[[str], str]) -> Examination:
    """Compile `model` and every module in it. The model is not changed, but for the empty `__overloads__` that torch.jit.script leaves
    on every module it compiles."""
    work = _Work(name_of)
    paths = {id(module): path for path, module in model.named_modules()}
    with _own_types():
        result = _attempt(model)
        if isinstance(result, CompilerError):
            _visit(model, paths, work)
            failures = _first_first(work.failures, result, model, work)
        else:
            compiled = dict(result.named_modules())
            for path, module in model.named_modules():
                _python_calls(compiled[path], module, path, work)
            failures = _unsaveable(result, model, work)
    return Examination(tuple(failures), tuple(dict.fromkeys(work.unused)), len(paths))


def results_scripted() -> Tuple[Tuple[str, str], ...]:
    """What this torch does when given what a detector returns instead of the detector: (what, the outcome)."""
    tensor = torch.zeros(1, 2)
    cases: Tuple[Tuple[str, Any], ...] = (("a tensor", tensor), ("a list", [tensor]), ("a tuple", (tensor, [tensor])))
    return tuple((what, scripted(value)) for what, value in cases)


def scripted(value: Any) -> str:
    """What torch.jit.script makes of a value that is no module, as text."""
    try:
        made = jit.script(value)
    except Exception as error:  # RuntimeError, AttributeError or TypeError by version
        return f"raises {type(error).__name__}: {taken_apart(str(error)).reason}"
    return f"gives a {type(made).__name__}: a container of values, without forward, weights or code"


@contextmanager
def _own_types() -> Iterator[None]:
    """Give the compiler a type store of its own for the block: it cannot compile a type again that failed once."""
    before = torch.jit._recursive.concrete_type_store
    torch.jit._recursive.concrete_type_store = torch.jit._recursive.ConcreteTypeStore()
    try:
        yield
    finally:
        torch.jit._recursive.concrete_type_store = before


def _attempt(module: nn.Module) -> Any:
    """The scripted module, or the compiler's error. Types that failed are removed from the store."""
    store = torch.jit._recursive.concrete_type_store
    before = {kind: list(found) for kind, found in store.type_store.items()}
    try:
        return jit.script(module)
    except Exception as error:  # the compiler raises RuntimeError, its own types, and whatever its Python parts meet
        # What compiled stays: made anew it would get another name, and isinstance goes by names.
        for kind, found in store.type_store.items():
            found[:] = [one for one in found if one in store.methods_compiled or one in before.get(kind, ())]
        return taken_apart(str(error) or type(error).__name__)


def _visit(module: nn.Module, paths: Mapping[int, str], work: _Work) -> nn.Module:
    """Examine a module after its children; return what scripts in its place."""
    if id(module) in work.done:
        return work.done[id(module)]
    work.done[id(module)] = module
    if isinstance(module, torch.jit.ScriptModule):
        return module
    children = {name: _visit(child, paths, work) for name, child in module._modules.items() if child is not None}
    replaced = any(children[name] is not module._modules[name] for name in children)
    copy = standin.shell(module, children) if replaced else module
    if isinstance(module, CONTAINERS) and type(module).forward is nn.Module.forward:
        work.done[id(module)] = copy
        return copy
    result, guessed = _with_guesses(copy, work)
    if isinstance(result, CompilerError):
        work.failures.append(_failure(module, paths[id(module)], result, guessed, work))
        copy = _stand_in_for(module, copy, work)
    else:
        _python_calls(result, module, paths[id(module)], work)
    work.done[id(module)] = copy
    return copy


def _with_guesses(copy: nn.Module, work: _Work) -> Tuple[Any, bool]:
    """Attempt a module; where it fails beside stand-ins, attempt it with other guesses of what they return.

    A guess stays where the module scripts, or where the compiler gets further down the same file. Returns the result, and
    whether a failure changes with the guesses.
    """
    result = _attempt(copy)
    open_kinds: Dict[type, List[nn.Module]] = {}
    for inner in copy.modules():
        if id(inner) in work.made and len(work.made[id(inner)][1].returns) > 1:
            open_kinds.setdefault(work.made[id(inner)][2], []).append(inner)
    tries, seen = MOST_TRIES, {result} if isinstance(result, CompilerError) else set()
    for members in open_kinds.values():
        for returns in dict.fromkeys(guess for member in members for guess in work.made[id(member)][1].returns):
            if not isinstance(result, CompilerError) or not tries:
                return result, bool(seen)
            tries -= 1
            before = [type(member) for member in members]
            for member in members:
                standin.change_returns(member, work.made[id(member)][1], returns, work.kinds)
            other = _attempt(copy)
            seen.add(other)
            if not isinstance(other, CompilerError) or _further(other, result):
                result = other
            else:
                for member, kind in zip(members, before):
                    member.__class__ = kind
    return result, isinstance(result, CompilerError) and len(seen) > 1


def _further(one: CompilerError, other: CompilerError) -> bool:
    """Whether the compiler stopped further down in the same file."""
    if not one.lines or not other.lines:
        return False
    return one.lines[0][0] == other.lines[0][0] and one.lines[0][1] > other.lines[0][1]


def _stand_in_for(module: nn.Module, copy: nn.Module, work: _Work) -> nn.Module:
    kind = type(module)
    forward = next((node for name, _, node in _functions(kind, work) if name == f"{kind.__name__}.forward"), None)
    lists, hint = (source_facts.list_parameters(forward), source_facts.returns(forward)) if forward else ([], "")
    declared = standin.interface(kind.forward, lists, hint)
    made = standin.stand_in(copy, declared, declared.returns[0], work.kinds)
    if isinstance(_attempt(made), CompilerError):
        made = standin.bare_stand_in(declared, declared.returns[0], work.kinds)
    work.made[id(made)] = (made, declared, kind)
    return made


# --- what a failure is ----------------------------------------------------------------------------------------------


def _first_first(failures: Sequence[Failure], first: CompilerError, model: nn.Module, work: _Work) -> List[Failure]:
    """Failures with the one that torch.jit.script(model) stops at in front; it is added where nothing else explains it."""
    found = list(failures)
    location = _location(first, work)
    for failure in found:
        same = failure.location == location if location else failure.reason == first.reason
        if same and failure.at == "script":
            found.remove(failure)
            return [failure, *found]
    return found if found else [_failure(model, "", first, False, work)]


def _unsaveable(compiled: torch.jit.ScriptModule, model: nn.Module, work: _Work) -> List[Failure]:
    """Why a model that scripts cannot be saved, or holds no code of its own. Tested last by saving it."""
    mark = MARKS.get(str(_modifier(inspect.getattr_static(type(model), "forward", None))))
    if mark is not None:
        message = CompilerError(
            f"forward is marked {mark}: nothing of it is compiled or saved", (_where(type(model).forward),)
        )
        return [_failure(model, "", message, False, work, f"{mark}-method", "save")]
    try:
        jit.save(compiled, io.BytesIO(), {})
    except Exception as error:  # RuntimeError, whose text differs by version and cause
        message = taken_apart(str(error) or type(error).__name__)
        known = [failure for failure in work.failures if failure.at == "save"]
        return known or [_failure(model, "", message, False, work, at="save")]
    return []


def _failure(
    module: nn.Module, path: str, message: CompilerError, guessed: bool, work: _Work, kind: str = "", at: str = "script"
) -> Failure:
    read = _read(module, work)
    location = _location(message, work)
    here = [
        mistake
        for mistake in read
        if location and mistake.location.line == location.line and mistake.location.file == location.file
    ]
    kind = (
        kind
        or _foreign_kind(message)
        or _hook_kind(message, module)
        or kind_of(message.reason, here or ([] if location else read))
    )
    if location is None:  # the compiler's Python parts fail without a location: the source may have it
        named = [mistake for mistake in read if mistake.kind == kind]
        location, here = (named[0].location, named[:1]) if named else (None, [])
    reported = {(kind, mistake.detail) for mistake in here} | {
        ("mixed-return", "") if kind == "mixed-return" else ("", "")
    }
    also: Dict[Tuple[str, str], Mistake] = {}
    for mistake in read:
        if mistake.location != location and (mistake.kind, mistake.detail) not in reported:
            also.setdefault((mistake.kind, mistake.detail), mistake)
    method = _method_at(module, message, work) or f"{type(module).__name__}.forward"
    return Failure(
        path, type(module).__name__, kind, message.reason, location, method, tuple(also.values()), at, guessed
    )


def _foreign_kind(message: CompilerError) -> str:
    """A failure inside torch's own Sequential is about its layers; one inside other code than the user's about the call."""
    if not message.lines or not _foreign(message.lines[0][0]):
        return ""
    if message.lines[0][0].replace("\\", "/").endswith("torch/nn/modules/container.py"):
        return "sequential"
    return "foreign-code"


def _hook_kind(message: CompilerError, module: nn.Module) -> str:
    """Hooks are compiled with the module from torch 1.8 on; what has no source is refused without a location."""
    hooked = bool(module._forward_hooks or module._forward_pre_hooks)
    return "hook" if hooked and not message.lines else ""


def _foreign(file: str) -> bool:
    """Whether a file is torch's or Python's own."""
    return file.startswith((str(torch.__path__[0]), str(sysconfig.get_paths()["stdlib"]))) or file.startswith("<")


def _line(message: CompilerError) -> Optional[Tuple[str, int]]:
    """The innermost line of the user's, else the innermost of all."""
    own = [line for line in message.lines if not _foreign(line[0])]
    return next(iter(own or message.lines), None)


def _location(message: CompilerError, work: _Work) -> Optional[Location]:
    at = _line(message)
    return Location(work.name_of(at[0]), at[1], linecache.getline(*at).strip()) if at else None


def _method_at(module: nn.Module, message: CompilerError, work: _Work) -> str:
    at = _line(message)
    for name, file, node in _functions(type(module), work):
        if at and file == at[0] and node.lineno <= at[1] <= (getattr(node, "end_lineno", None) or node.lineno):
            return name
    return ""


# --- calls that a scripted module leaves to Python, or drops --------------------------------------------------------


def _python_calls(made: torch.jit.ScriptModule, module: nn.Module, path: str, work: _Work) -> None:
    """Note methods marked ignore, which keep the module from being saved, and calls of methods marked unused."""
    for method in made._c._method_names():
        for node in made._c._get_method(method).graph.findAllNodes("prim::PythonOp"):
            message = taken_apart(f"Could not export Python function call '{node.pyname()}'\n{_range(node)}")
            work.failures.append(_failure(module, path, message, False, work, at="save"))
    for name, file, function in _functions(type(module), work):
        for call in ast.walk(function):
            target = call.func.attr if isinstance(call, ast.Call) and isinstance(call.func, ast.Attribute) else ""
            owner = inspect.getattr_static(type(module), target, None) if target else None
            if getattr(owner, "_torchscript_modifier", None) is FunctionModifiers.UNUSED and isinstance(call, ast.Call):
                location = Location(work.name_of(file), call.lineno, linecache.getline(file, call.lineno).strip())
                work.unused.append(Mistake("unused-method", name, location, target))


def _range(node: Any) -> str:
    text = node.sourceRange()
    return text if "<--- HERE" in text else ""


def _where(function: Any) -> Tuple[str, int]:
    return function.__code__.co_filename, function.__code__.co_firstlineno


# --- reading the source of a module ---------------------------------------------------------------------------------


def _read(module: nn.Module, work: _Work) -> List[Mistake]:
    """Known mistakes in forward and what it calls."""
    facts = facts_of(module)
    found: List[Mistake] = []
    for name, file, node in _functions(type(module), work):
        found += source.mistakes(node, facts, name, work.name_of(file), linecache.getlines(file))
    return found


def _functions(kind: type, work: _Work) -> List[Tuple[str, str, Any]]:
    """forward, exported methods, and what they call on self or by name in the same file: (name, file, syntax tree)."""
    if kind not in work.functions:
        work.functions[kind] = _reached(kind)
    return work.functions[kind]


def _reached(kind: type) -> List[Tuple[str, str, Any]]:
    if issubclass(kind, torch.jit.ScriptModule):  # compiled already, and no Python any more
        return []
    export = FunctionModifiers.EXPORT
    exported = [n for n, f in inspect.getmembers(kind, inspect.isfunction) if _modifier(f) is export]
    waiting: List[Tuple[str, Any]] = [(f"{kind.__name__}.{n}", getattr(kind, n)) for n in ("forward", *exported)]
    waiting += [(f"{kind.__name__}.{n}", p.fget) for n, p in inspect.getmembers(kind) if isinstance(p, property)]
    found: List[Tuple[str, str, Any]] = []
    seen: set = set()
    while waiting:
        name, function = waiting.pop(0)
        code = getattr(function, "__code__", None)
        if code is None or code in seen or _modifier(function) not in (None, export):
            continue
        seen.add(code)
        node = _tree(function)
        if node is None:
            continue
        found.append((name, code.co_filename, node))
        for called in source_facts.called_on_self(node):
            method = inspect.getattr_static(kind, called, None)
            waiting.append((f"{kind.__name__}.{called}", getattr(method, "__func__", method)))
        for called in source_facts.called_by_name(node):
            other = function.__globals__.get(called)
            if isinstance(other, types.FunctionType) and other.__code__.co_filename == code.co_filename:
                waiting.append((called, other))
    return found


def _modifier(function: Any) -> Any:
    marked = getattr(function, "_torchscript_modifier", None)
    return None if marked is FunctionModifiers.DEFAULT else marked


def _tree(function: Any) -> Any:
    """The syntax tree of a function of the user's, None where there is no source; torch's own code is not read."""
    file, line = _where(function)
    lines = linecache.getlines(file)
    if not lines or _foreign(file):
        return None
    try:
        return source.function_at("".join(lines), line, function.__name__)
    except SyntaxError:  # the file has changed since it was imported
        return None
