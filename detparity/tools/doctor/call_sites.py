"""Calls of torch.jit.script in a source file, and whether they script a module or what a call returned. Nothing is run."""

from __future__ import annotations

import ast
from dataclasses import dataclass
from typing import Dict, Iterator, List, Mapping, Optional, Tuple, Union

from detparity.models.user_file import parsed
from detparity.tools.doctor.causes import Location

# Methods of a module that return the module itself: torch.jit.script(model.eval()) scripts the model.
RETURNS_ITSELF = frozenset(
    {"apply", "cpu", "cuda", "eval", "train", "to", "type", "requires_grad_", "share_memory"}
) | {
    "bfloat16",
    "double",
    "float",
    "fuse",
    "half",
}
MODULE, OTHER = "module", "other"  # what a name of the file is, where the file has been run
CLASS, INSTANCE, UNSURE = "class", "instance", "unsure"  # what a called name is, as the source shows
_MAKERS = frozenset({"getattr", "partial", "import_module", "type"})  # calls that return classes and functions as often


@dataclass(frozen=True)
class CallSite:
    """One call of torch.jit.script. result: whether its argument is what a call returned; argument: its text; instead: what to
    write; last: its last line; certain: whether running the file has shown that what is called there is a module."""

    location: Location
    result: bool
    argument: str
    instead: str
    last: int
    certain: bool = False


Scope = Union[ast.Module, ast.FunctionDef, ast.AsyncFunctionDef]


def call_sites(text: str, file: str, known: Mapping[str, str]) -> Tuple[CallSite, ...]:
    """Every call of torch.jit.script in order. known: what the global names hold (`module` or `other`), where that is known.

    Raises InputError where the file is no Python.
    """
    tree = parsed(text, file)
    lines = text.splitlines()
    names = _script_names(tree)
    found = []
    for scope, call in _calls(tree, tree):
        argument = _argument(call) if ast.unparse(call.func) in names else None
        if argument is not None:
            location = Location(file, call.lineno, lines[call.lineno - 1].strip())
            culprit = _result(argument, scope, tree, known)
            shown = ast.unparse(argument)
            last = getattr(call, "end_lineno", None) or call.lineno
            if culprit is None:
                found.append(CallSite(location, False, shown, "", last))
                continue
            instead = f"{ast.unparse(call.func)}({_callee(culprit)})"
            certain = isinstance(culprit.func, ast.Name) and known.get(culprit.func.id) == MODULE
            found.append(CallSite(location, True, shown, instead, last, certain))
    return tuple(sorted(found, key=lambda site: site.location.line))


def made_by_call(text: str, name: str) -> Optional[Tuple[int, str]]:
    """The line on which a global name was given what a call on a value returned, and what was called."""
    tree = ast.parse(text)
    value = _assigned(name, tree, 10**9)
    if isinstance(value, ast.Call):
        return value.lineno, _callee(value)
    return None


def _callee(call: ast.Call) -> str:
    func = call.func
    inner = func.value if isinstance(func, ast.Attribute) and func.attr in ("forward", "__call__") else func
    return ast.unparse(inner)


def _script_names(tree: ast.Module) -> List[str]:
    """Every spelling of torch.jit.script that the imports allow."""
    names = ["torch.jit.script"]
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            for alias in node.names:
                if alias.name in ("torch", "torch.jit") and alias.asname:
                    names.append(f"{alias.asname}.{'jit.' if alias.name == 'torch' else ''}script")
        elif isinstance(node, ast.ImportFrom):
            for alias in node.names:
                if (node.module, alias.name) == ("torch", "jit"):
                    names.append(f"{alias.asname or 'jit'}.script")
                elif (node.module, alias.name) == ("torch.jit", "script"):
                    names.append(alias.asname or "script")
    return names


def _calls(node: ast.AST, scope: Scope) -> Iterator[Tuple[Scope, ast.Call]]:
    """Calls with the function they are in."""
    for child in ast.iter_child_nodes(node):
        if isinstance(child, ast.Call):
            yield scope, child
        yield from _calls(child, child if isinstance(child, (ast.FunctionDef, ast.AsyncFunctionDef)) else scope)


def _argument(call: ast.Call) -> Optional[ast.expr]:
    if call.args:
        return None if isinstance(call.args[0], ast.Starred) else call.args[0]
    return next((keyword.value for keyword in call.keywords if keyword.arg == "obj"), None)


def _result(node: ast.expr, scope: Scope, tree: ast.Module, known: Mapping[str, str]) -> Optional[ast.Call]:
    """The call on a module whose result a node is, or None."""
    if isinstance(node, ast.Name):
        value = _assigned(node.id, scope, node.lineno)
        if value is None and scope is not tree:
            value = _assigned(node.id, tree, 10**9)
        if value is None or (isinstance(value, ast.Name) and value.id == node.id):
            return None
        return _result(value, scope, tree, known) if isinstance(value, (ast.Call, ast.Subscript)) else None
    if isinstance(node, ast.Subscript):
        return _result(node.value, scope, tree, known) if isinstance(node.value, (ast.Call, ast.Name)) else None
    if not isinstance(node, ast.Call):
        return None
    if isinstance(node.func, ast.Attribute) and node.func.attr in RETURNS_ITSELF:  # model.eval() is the model
        return _result(node.func.value, scope, tree, known)
    return node if _runs_module(node, scope, tree, known) else None


def _runs_module(call: ast.Call, scope: Scope, tree: ast.Module, known: Mapping[str, str]) -> bool:
    """Whether what is called is an instance, so that the call runs it: classes and factories make one instead."""
    func, fed = call.func, bool(call.args or call.keywords)
    if isinstance(func, ast.Call):  # Model()(x)
        return fed and _last(func.func) not in _MAKERS
    if isinstance(func, ast.Attribute):
        if func.attr in ("forward", "__call__"):
            return not (isinstance(func.value, ast.Call) and _last(func.value.func) == "super")
        owned = isinstance(func.value, ast.Name) and func.value.id == "self"
        return owned and fed and func.attr in _own_attributes(tree)
    if not isinstance(func, ast.Name):
        return False
    if func.id in known and scope is tree:
        return known[func.id] == MODULE
    what = _what(func.id, scope, tree, call.lineno)
    return what == INSTANCE or (what == UNSURE and fed)


def _last(node: ast.AST) -> str:
    return node.attr if isinstance(node, ast.Attribute) else node.id if isinstance(node, ast.Name) else ""


def _what(name: str, scope: Scope, tree: ast.Module, line: int) -> str:
    """What a called name holds: a class or function of the file or of an import makes things; a variable that was given what a
    call returned holds an instance; a parameter may be either."""
    if not isinstance(scope, ast.Module):
        value = _assigned(name, scope, line)
        if value is not None:
            return _value(value, scope, tree)
        arguments = scope.args
        if name in {a.arg for a in [*arguments.posonlyargs, *arguments.args, *arguments.kwonlyargs]}:
            return UNSURE
    value = _assigned(name, tree, line if isinstance(scope, ast.Module) else 10**9)
    return _value(value, tree, tree) if value is not None else CLASS


def _value(value: ast.AST, scope: Scope, tree: ast.Module) -> str:
    if isinstance(value, ast.Call):
        return CLASS if _last(value.func) in _MAKERS else INSTANCE
    if isinstance(value, ast.Name):
        return _what(value.id, scope, tree, value.lineno)
    if isinstance(value, ast.Subscript) and _last(value.value).isupper():  # a registry: ZOO[name]
        return CLASS
    return CLASS if isinstance(value, ast.Lambda) else UNSURE


def _own_attributes(tree: ast.Module) -> List[str]:
    """Attributes that the file assigns on self."""
    stores = [n for n in ast.walk(tree) if isinstance(n, ast.Attribute) and isinstance(n.ctx, ast.Store)]
    return [node.attr for node in stores if isinstance(node.value, ast.Name) and node.value.id == "self"]


def _assigned(name: str, scope: Scope, line: int) -> Optional[ast.AST]:
    """The last value that a name was given in a scope, inner functions left out, before `line`."""
    found: Dict[int, ast.AST] = {}
    for node in _own(scope):
        pairs: List[Tuple[ast.AST, Optional[ast.AST]]] = []
        if isinstance(node, ast.Assign):
            pairs = [(target, node.value) for target in node.targets]
        elif isinstance(node, (ast.AnnAssign, ast.NamedExpr)):
            pairs = [(node.target, node.value)]
        elif isinstance(node, ast.For):
            pairs = [(node.target, ast.Subscript(node.iter, ast.Constant(0), ast.Load(), lineno=node.lineno))]
        for target, value in pairs:
            names = [part.id for part in ast.walk(target) if isinstance(part, ast.Name)]
            at = getattr(node, "lineno", 0)
            if name in names and value is not None and at < line:
                found[at] = value
    return found[max(found)] if found else None


def _own(scope: ast.AST) -> Iterator[ast.AST]:
    for child in ast.iter_child_nodes(scope):
        if not isinstance(child, (ast.FunctionDef, ast.AsyncFunctionDef, ast.ClassDef, ast.Lambda)):
            yield child
            yield from _own(child)
