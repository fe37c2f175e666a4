"""Known mistakes found in the source of a method, without compiling it: the compiler stops at its first error.

Each rule takes one node and returns the mistake in it, or None. Only what was seen to fail on some supported torch is a mistake here;
isinstance as the condition of an `if`, a plain f-string and print(module) compile, and are none.
"""

from __future__ import annotations

import ast
from typing import Callable, Dict, Iterator, List, Optional, Tuple

from detparity.tools.doctor.causes import Location, Mistake
from detparity.tools.doctor.source_facts import (
    MODULE,
    MODULES,
    PYTHON_MODULES,
    Context,
    Facts,
    Function,
    Match,
    is_kind,
    last_name,
    listed_names,
    on_self,
    unannotated,
)

NONE, EMPTY, HOLDS_NONE, ROUTES, MIXED, LAMBDA, VALUE = (
    "none",
    "empty",
    "holds None",
    "routes",
    "mixed",
    "lambda",
    "value",
)


def function_at(source: str, line: int, name: str) -> Optional[Function]:
    """The definition of `name` whose decorators or `def` are at `line`."""
    for node in ast.walk(ast.parse(source)):
        if isinstance(node, (ast.FunctionDef, ast.AsyncFunctionDef)) and node.name == name:
            first = min([node.lineno, *(decorator.lineno for decorator in node.decorator_list)])
            if first <= line <= node.lineno:
                return node
    return None


def mistakes(function: Function, facts: Facts, method: str, file: str, lines: List[str]) -> Tuple[Mistake, ...]:
    """Known mistakes of one function in the order of its lines, one of a kind and detail on a line."""
    parents = {child: parent for parent in ast.walk(function) for child in ast.iter_child_nodes(parent)}
    context = Context(function, facts, parents, dict(_loops(function, facts)), frozenset(unannotated(function)))
    found: Dict[Tuple[int, Match], int] = {}
    for node in _compiled(function):
        for rule in _RULES if not _skipped(node, context) else _PARSED:
            match = rule(node, context)
            if match:
                found.setdefault((getattr(node, "lineno", function.lineno), match), getattr(node, "col_offset", 0))
    order = sorted(found, key=lambda key: (key[0], found[key], key[1]))
    return tuple(
        Mistake(kind, method, Location(file, line, lines[line - 1].strip()), detail) for line, (kind, detail) in order
    )


def _compiled(function: Function) -> Iterator[ast.AST]:
    """Every node of the body and of the arguments; decorators and annotations are not compiled."""
    yield function
    for default in [*function.args.defaults, *(d for d in function.args.kw_defaults if d is not None)]:
        yield from ast.walk(default)
    for statement in function.body:
        yield from ast.walk(statement)


def _skipped(node: ast.AST, context: Context) -> bool:
    """Whether a node is under `if not torch.jit.is_scripting()`: parsed by the compiler, but not compiled."""
    child = node
    while child in context.parents:
        parent = context.parents[child]
        if isinstance(parent, ast.If) and child is not parent.test:
            negated = isinstance(parent.test, ast.UnaryOp) and isinstance(parent.test.op, ast.Not)
            test = parent.test.operand if isinstance(parent.test, ast.UnaryOp) else parent.test
            if isinstance(test, ast.Call) and last_name(test.func) == "is_scripting":
                return (child in parent.body) == negated
        child = parent
    return False


# --- names ----------------------------------------------------------------------------------------------------------


def _loops(function: Function, facts: Facts) -> Iterator[Tuple[str, str]]:
    """Loop variables that run over a module list, through enumerate and zip too."""
    for node in ast.walk(function):
        if isinstance(node, (ast.For, ast.comprehension)):
            yield from _pairs(node.target, node.iter, facts)


def _pairs(target: ast.AST, values: ast.AST, facts: Facts) -> Iterator[Tuple[str, str]]:
    name = is_kind(values, facts, MODULES)
    if name and isinstance(target, ast.Name):
        yield target.id, name
    elif isinstance(values, ast.Call) and isinstance(target, ast.Tuple):
        found: Dict[str, List[Optional[ast.expr]]] = {"enumerate": [None, *values.args], "zip": [*values.args]}
        inner = found.get(last_name(values.func), [])
        for part, value in zip(target.elts, inner):
            if value is not None:
                yield from _pairs(part, value, facts)


# --- rules ----------------------------------------------------------------------------------------------------------


def _attribute(node: ast.AST, context: Context) -> Optional[Match]:
    name = on_self(node)
    if name is None or not isinstance(node, ast.Attribute) or not isinstance(node.ctx, ast.Store):
        return None
    known = context.facts.attributes.get(name)
    if known is None and name not in context.facts.on_class:
        return "attribute-in-forward", f"self.{name}"
    return ("mutated-cache", f"self.{name} was None") if known == NONE else None


def _cache(node: ast.AST, context: Context) -> Optional[Match]:
    """`self.x[...] = ` and `self.x.append(...)` on what holds None or has no type yet."""
    owner: Optional[ast.AST] = None
    if isinstance(node, ast.Subscript) and isinstance(node.ctx, ast.Store):
        owner = node.value
    elif isinstance(node, ast.Call) and isinstance(node.func, ast.Attribute):
        owner = node.func.value if node.func.attr in ("append", "extend", "insert", "update", "setdefault") else None
    name = None if owner is None else is_kind(owner, context.facts, EMPTY, HOLDS_NONE, NONE)
    return ("mutated-cache", f"self.{name}") if name else None


def _routes(node: ast.AST, context: Context) -> Optional[Match]:
    if not isinstance(node, ast.Attribute) or not isinstance(node.ctx, ast.Load):
        return None
    if is_kind(node, context.facts, ROUTES):
        return "mixed-type-routing", f"self.{node.attr}"
    if isinstance(node.value, ast.Name):
        over = context.over.get(node.value.id, "")
        if node.attr in context.facts.layers.get(over, ()):
            return "mixed-type-routing", f"{node.value.id}.{node.attr} of the layers of self.{over}"
    return None


def _isinstance(node: ast.AST, context: Context) -> Optional[Match]:
    """isinstance that is not the complete condition, or whose classes the compiler cannot name; type(x) and x.__class__."""
    if isinstance(node, ast.Attribute) and node.attr == "__class__":
        return "isinstance", "__class__"
    if not isinstance(node, ast.Call):
        return None
    if isinstance(node.func, ast.Name) and node.func.id == "type" and len(node.args) == 1:
        return "isinstance", "type()"
    if not (isinstance(node.func, ast.Name) and node.func.id == "isinstance" and len(node.args) == 2):
        return None
    parent = context.parents.get(node)
    if isinstance(parent, ast.UnaryOp):
        node, parent = parent, context.parents.get(parent)
    condition = isinstance(parent, (ast.If, ast.Assert)) and node is parent.test
    about = _subject(node, context)
    return None if condition or not about else ("isinstance", about)


def _subject(node: ast.AST, context: Context) -> Optional[str]:
    """What isinstance asks about, where that is a module or a route."""
    call = node.operand if isinstance(node, ast.UnaryOp) else node
    asked = call.args[0] if isinstance(call, ast.Call) else call
    base = asked.value if isinstance(asked, ast.Attribute) else asked
    if isinstance(base, ast.Name) and base.id in context.over:
        return f"isinstance({base.id}{'.' + asked.attr if isinstance(asked, ast.Attribute) else ''}, ...)"
    name = is_kind(asked, context.facts, MODULE, MODULES)
    return f"isinstance(self.{name}, ...)" if name else None


def _getattr(node: ast.AST, context: Context) -> Optional[Match]:
    if not (isinstance(node, ast.Call) and isinstance(node.func, ast.Name)):
        return None
    name, literal = node.func.id, len(node.args) > 1 and isinstance(node.args[1], ast.Constant)
    if name in ("setattr", "delattr", "vars") or (name in ("getattr", "hasattr") and not literal):
        return "dynamic-getattr", name
    return None


def _signature(node: ast.AST, context: Context) -> Optional[Match]:
    if node is not context.function:
        return None
    arguments = context.function.args
    stars = [f"{mark}{a.arg}" for mark, a in (("*", arguments.vararg), ("**", arguments.kwarg)) if a is not None]
    return ("star-arguments", ", ".join(stars)) if stars else None


def _starred(node: ast.AST, context: Context) -> Optional[Match]:
    if not isinstance(node, ast.Call):
        return None
    lists = [
        a.value for a in node.args if isinstance(a, ast.Starred) and not isinstance(a.value, (ast.Tuple, ast.List))
    ]
    if lists or any(keyword.arg is None for keyword in node.keywords):
        return "star-arguments", f"in the call of {last_name(node.func)}"
    return None


def _fstring(node: ast.AST, context: Context) -> Optional[Match]:
    if isinstance(node, ast.FormattedValue) and (node.conversion != -1 or node.format_spec is not None):
        return "f-string", ""
    return None


def _builtin(node: ast.AST, context: Context) -> Optional[Match]:
    if not (isinstance(node, ast.Call) and isinstance(node.func, ast.Name)):
        return None
    name, facts = node.func.id, context.facts
    modules = [bool(is_kind(a, facts, MODULES)) for a in node.args]
    if name == "super":
        return "super-call", ""
    if name == "zip" and any(modules) and not all(modules):
        return "builtin", "zip of a module list and something else"
    if name in ("reversed", "sorted", "iter") and any(modules):
        return "builtin", f"{name} of a module list"
    if name == "sum" and node.args and isinstance(node.args[0], (ast.GeneratorExp, ast.ListComp)):
        return "builtin", "sum of tensors"
    return ("builtin", name) if name in ("map", "filter", "next", "open", "eval", "globals", "locals") else None


def _index(node: ast.AST, context: Context) -> Optional[Match]:
    if not (isinstance(node, ast.Subscript) and isinstance(node.ctx, ast.Load)):
        return None
    name = is_kind(node.value, context.facts, MODULES)
    inner: ast.AST = node.slice
    if type(inner).__name__ == "Index":  # Python 3.8 wraps indices; harmless to look through
        inner = inner.value  # type: ignore[attr-defined]
    parts = [inner.lower, inner.upper, inner.step] if isinstance(inner, ast.Slice) else [inner]
    literal = all(part is None or _literal(part) for part in parts)
    return None if name is None or literal else ("module-list-index", f"self.{name}")


def _literal(node: ast.AST) -> bool:
    return isinstance(node.operand if isinstance(node, ast.UnaryOp) else node, ast.Constant)


def _none(node: ast.AST, context: Context) -> Optional[Match]:
    """An attribute that is None where a value is needed; a comparison with None is fine."""
    name = is_kind(node, context.facts, NONE)
    if name is None or not isinstance(node, ast.Attribute) or not isinstance(node.ctx, ast.Load):
        return None
    parent = context.parents.get(node)
    needed = isinstance(parent, (ast.BinOp, ast.Subscript, ast.Attribute)) or (
        isinstance(parent, ast.Call) and node is not parent.func
    )
    return ("none-attribute", f"self.{name}") if needed else None


def _default(node: ast.AST, context: Context) -> Optional[Match]:
    if node is not context.function:
        return None
    arguments = context.function.args
    positional = [*arguments.posonlyargs, *arguments.args]
    pairs = [*zip(positional[len(positional) - len(arguments.defaults) :], arguments.defaults)]
    pairs += [(a, d) for a, d in zip(arguments.kwonlyargs, arguments.kw_defaults) if d is not None]
    plain = [argument.arg for argument, _ in pairs if argument.arg in context.plain]
    return ("unannotated-parameter", ", ".join(plain)) if plain else None


def _used_as_list(node: ast.AST, context: Context) -> Optional[Match]:
    name = listed_names(node, set(context.plain))
    return ("unannotated-parameter", name) if name else None


def _lambda(node: ast.AST, context: Context) -> Optional[Match]:
    if isinstance(node, ast.Lambda):
        return "lambda", ""
    name = is_kind(node.func, context.facts, LAMBDA) if isinstance(node, ast.Call) else None
    return ("lambda", f"self.{name}") if name else None


def _numpy(node: ast.AST, context: Context) -> Optional[Match]:
    if not (isinstance(node, ast.Call) and isinstance(node.func, ast.Attribute)):
        return None
    base: ast.AST = node.func
    while isinstance(base, ast.Attribute):
        base = base.value
    if isinstance(base, ast.Name) and base.id in context.facts.numpy:
        return "numpy", ast.unparse(node.func)
    return ("numpy", ".numpy()") if node.func.attr == "numpy" else None


def _mixed_return(node: ast.AST, context: Context) -> Optional[Match]:
    """Returns of which some are a tuple and some are not, reported at the first that differs."""
    if not isinstance(node, ast.Return) or node.value is None or context.function.returns is not None:
        return None
    if isinstance(node.value, ast.IfExp):
        branches = [node.value.body, node.value.orelse]
        return ("mixed-return", "") if len({_shape(branch) for branch in branches}) > 1 else None
    first = next(n for n in ast.walk(context.function) if isinstance(n, ast.Return) and n.value is not None)
    assert first.value is not None
    return ("mixed-return", "") if _shape(first.value) != _shape(node.value) else None


def _shape(value: ast.AST) -> str:
    return f"tuple {len(value.elts)}" if isinstance(value, ast.Tuple) else "one"


def _class_attribute(node: ast.AST, context: Context) -> Optional[Match]:
    name = on_self(node)
    if name in context.facts.on_class and isinstance(node, ast.Attribute) and isinstance(node.ctx, ast.Load):
        return "class-attribute", f"self.{name}"
    return None


def _read(node: ast.AST, context: Context) -> Optional[Match]:
    """Attributes without a type, submodules in a Python list, and attributes that only a method creates."""
    if not isinstance(node, ast.Attribute) or not isinstance(node.ctx, ast.Load):
        return None
    facts = context.facts
    if is_kind(node, facts, PYTHON_MODULES):
        return "modules-in-list", f"self.{node.attr}"
    if is_kind(node, facts, MIXED, EMPTY):
        return "attribute-without-type", f"self.{node.attr}"
    name = on_self(node)
    if name in facts.made and name not in facts.attributes and name not in facts.on_class:
        return "attribute-in-forward", f"self.{name}"
    return None


_SYNTAX = {
    ast.Try: "try",
    ast.Import: "import",
    ast.ImportFrom: "import",
    ast.FunctionDef: "an inner function",
    ast.ClassDef: "an inner class",
    ast.Global: "global",
    ast.Nonlocal: "nonlocal",
    ast.Yield: "yield",
    ast.Set: "a set",
    ast.SetComp: "a set",
    ast.NamedExpr: ":=",
}


def _syntax(node: ast.AST, context: Context) -> Optional[Match]:
    what = _SYNTAX.get(type(node))
    return ("syntax", what) if what and node is not context.function else None


Rule = Callable[[ast.AST, Context], Optional[Match]]
_PARSED: Tuple[Rule, ...] = (_signature, _fstring, _syntax, _lambda)  # refused while parsing, compiled or not
_RULES: Tuple[Rule, ...] = (
    _signature,
    _default,
    _attribute,
    _cache,
    _routes,
    _isinstance,
    _getattr,
    _starred,
    _fstring,
    _builtin,
    _index,
    _none,
    _used_as_list,
    _lambda,
    _numpy,
    _mixed_return,
    _class_attribute,
    _read,
    _syntax,
)
