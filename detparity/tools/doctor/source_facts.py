"""What source code says of a model, read as a syntax tree."""

from __future__ import annotations

import ast
from dataclasses import dataclass, field
from typing import FrozenSet, Iterator, List, Mapping, Optional, Tuple, Union

Function = Union[ast.FunctionDef, ast.AsyncFunctionDef]


Match = Tuple[str, str]  # kind and detail


# What an attribute of a module can be, as far as scripting cares.
MODULE, MODULES, PYTHON_MODULES = "module", "module list", "modules in a Python list"


@dataclass(frozen=True)
class Facts:
    """What is known of the instance. attributes: what each is; layers: per module list, the attributes of its layers that are an int
    in one layer and a list in another; on_class: plain values that only the class has; made: attributes that methods other
    than __init__ create; numpy: names of numpy."""

    attributes: Mapping[str, str] = field(default_factory=dict)
    layers: Mapping[str, FrozenSet[str]] = field(default_factory=dict)
    on_class: FrozenSet[str] = frozenset()
    made: FrozenSet[str] = frozenset()
    numpy: FrozenSet[str] = frozenset()


@dataclass(frozen=True)
class Context:
    function: Function
    facts: Facts
    parents: Mapping[ast.AST, ast.AST]
    over: Mapping[str, str]  # loop variable -> the module list it runs over
    plain: FrozenSet[str]  # parameters without annotation


def called_on_self(function: Function) -> List[str]:
    """Methods that a function calls on its module, in the order of the source."""
    names = [on_self(node.func) for node in ast.walk(function) if isinstance(node, ast.Call)]
    return list(dict.fromkeys(name for name in names if name))


def called_by_name(function: Function) -> List[str]:
    """Functions that a function calls by a bare name."""
    calls = [node.func for node in ast.walk(function) if isinstance(node, ast.Call)]
    return list(dict.fromkeys(call.id for call in calls if isinstance(call, ast.Name)))


def made_outside_init(source: str) -> FrozenSet[str]:
    """Attributes that methods of the classes in `source` assign on self, __init__ left out."""
    functions = [node for node in ast.walk(ast.parse(source)) if isinstance(node, ast.FunctionDef)]
    stores = [
        node for f in functions if f.name != "__init__" for node in ast.walk(f) if isinstance(node, ast.Attribute)
    ]
    return frozenset(node.attr for node in stores if isinstance(node.ctx, ast.Store) and on_self(node))


def list_parameters(function: Function) -> List[str]:
    """Parameters without annotation that the body uses as a list of tensors."""
    plain = set(unannotated(function))
    return [
        name for name in unannotated(function) if name in {listed_names(node, plain) for node in ast.walk(function)}
    ]


def returns(function: Function) -> str:
    """What a function seems to return, where its last return statement shows it: `list`, or `tuple N`; else empty."""
    found = [node.value for node in ast.walk(function) if isinstance(node, ast.Return) and node.value is not None]
    if not found:
        return ""
    last = max(found, key=lambda node: node.lineno)
    value = last.orelse if isinstance(last, ast.IfExp) else last
    if isinstance(value, ast.Tuple):
        return f"tuple {len(value.elts)}"
    if isinstance(value, ast.Name):
        made = [
            node.value
            for node in ast.walk(function)
            if isinstance(node, (ast.Assign, ast.AnnAssign)) and node.value is not None and _targets(node) == [value.id]
        ]
        value = made[-1] if made else value
    return "list" if isinstance(value, (ast.List, ast.ListComp)) else ""


def _targets(node: Union[ast.Assign, ast.AnnAssign]) -> List[str]:
    targets = node.targets if isinstance(node, ast.Assign) else [node.target]
    return [target.id for target in targets if isinstance(target, ast.Name)]


def on_self(node: ast.AST) -> Optional[str]:
    """The attribute's name, where a node is `self.NAME`."""
    if isinstance(node, ast.Attribute) and isinstance(node.value, ast.Name) and node.value.id == "self":
        return node.attr
    return None


def last_name(node: ast.AST) -> str:
    return node.attr if isinstance(node, ast.Attribute) else node.id if isinstance(node, ast.Name) else ""


def is_kind(node: ast.AST, facts: Facts, *kinds: str) -> Optional[str]:
    """The attribute's name, where a node is an attribute of self of one of these kinds."""
    name = on_self(node)
    return name if name is not None and facts.attributes.get(name) in kinds else None


def unannotated(function: Function) -> Iterator[str]:
    arguments = function.args
    for argument in [*arguments.posonlyargs, *arguments.args, *arguments.kwonlyargs]:
        if argument.annotation is None and argument.arg != "self":
            yield argument.arg


def listed_names(node: ast.AST, plain: set) -> Optional[str]:
    """The parameter that a node uses as a list: torch.cat(x), x.append(..), zip(.., x), self.m[i](x[i])."""
    if not isinstance(node, ast.Call):
        return None
    called = last_name(node.func)
    candidates: List[ast.AST] = []
    if called in ("cat", "stack", "concat"):
        candidates = list(node.args[:1])
    elif called == "zip":
        candidates = list(node.args)
    elif isinstance(node.func, ast.Attribute) and called in ("append", "extend"):
        candidates = [node.func.value]
    elif isinstance(node.func, ast.Subscript) and on_self(node.func.value):
        candidates = [argument.value for argument in node.args if isinstance(argument, ast.Subscript)]
    return next((c.id for c in candidates if isinstance(c, ast.Name) and c.id in plain), None)
