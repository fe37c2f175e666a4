"""Stand-ins for submodules that do not script, so that the compiler reaches their parents' own mistakes.

A stand-in is a copy of the submodule, of a class derived from its own, whose forward has the same parameters and is marked
unused: the compiler then reads its signature and ignores its body. What forward returns is taken from its annotation, else guessed,
and the guess can be changed. The user's module is not changed.
"""

from __future__ import annotations

import inspect
import itertools
import linecache
import typing
from collections import OrderedDict
from dataclasses import dataclass
from typing import Any, Dict, List, Mapping, Optional, Sequence, Tuple

import torch
from torch import nn

# What a forward without annotation may return, by what its source shows of it (`source.returns`); the first is the best guess.
GUESSES = {
    "": ("Tensor",),
    "list": ("List[Tensor]", "Tensor"),
    "tuple 2": ("Tuple[Tensor, List[Tensor]]", "Tuple[Tensor, Tensor]", "List[Tensor]", "Tensor"),
    "tuple 3": ("Tuple[Tensor, Tensor, Tensor]", "Tensor"),
}
_NAMES: Dict[Any, str] = {
    torch.Tensor: "Tensor",
    int: "int",
    float: "float",
    bool: "bool",
    str: "str",
    type(None): "None",
}
_number = itertools.count(1)
Kinds = Dict[Tuple[type, str, Tuple[str, ...]], type]  # classes made so far, so that equal stand-ins share one


@dataclass(frozen=True)
class Interface:
    """parameters: each as source text (`x: List[Tensor]`); returns: the annotation as source text, alone, or guesses at it."""

    parameters: Tuple[str, ...]
    returns: Tuple[str, ...]


def shell(module: nn.Module, children: Mapping[str, nn.Module]) -> nn.Module:
    """A copy of `module` that shares everything with it but its submodules."""
    copy = type(module).__new__(type(module))
    copy.__dict__ = dict(module.__dict__)
    copy.__dict__["_modules"] = OrderedDict(
        (name, children.get(name, child)) for name, child in module._modules.items()
    )
    return copy


def interface(forward: Any, lists: Sequence[str], hint: str) -> Interface:
    """The signature of a forward. lists: parameters without annotation that are known to be lists of tensors; hint: what its
    source shows of what it returns.

    A parameter of unknown type takes anything: what is wrong with its type is found in the child.
    """
    try:
        hints = typing.get_type_hints(forward)
    except Exception:  # an annotation that names what is not there is the user's, and raises whatever it raises
        hints = {}
    parameters: List[str] = []
    optional = False
    for name, parameter in list(inspect.signature(forward).parameters.items())[1:]:
        if parameter.kind is inspect.Parameter.VAR_KEYWORD:
            continue
        if parameter.kind is inspect.Parameter.VAR_POSITIONAL:
            parameters += [f"{name}{k}: Any = None" for k in range(6)]
            optional = True
            continue
        text = _type_text(hints[name]) if name in hints else "List[Tensor]" if name in lists else None
        default = parameter.default
        if default is inspect.Parameter.empty and not optional:
            parameters.append(f"{name}: {text or 'Any'}")
            continue
        optional = True
        if isinstance(default, (bool, int, float, str)):
            parameters.append(f"{name}: {text or type(default).__name__} = {default!r}")
        else:
            wide = text if text is not None and text.startswith("Optional") else "Any"
            parameters.append(f"{name}: {wide} = None")
    returns = _type_text(hints["return"]) if "return" in hints else None
    return Interface(tuple(parameters), (returns,) if returns else GUESSES.get(hint, GUESSES[""]))


def _type_text(annotation: Any) -> Optional[str]:
    """An annotation as TorchScript spells it, or None for one that it does not know."""
    if annotation in _NAMES if isinstance(annotation, type) else False:
        return _NAMES[annotation]
    origin, parts = typing.get_origin(annotation), [_type_text(part) for part in typing.get_args(annotation)]
    if origin is typing.Union:
        inner = [part for part in parts if part != "None"]
        return f"Optional[{inner[0]}]" if len(inner) == 1 and inner[0] is not None and len(parts) == 2 else None
    name = {list: "List", tuple: "Tuple", dict: "Dict"}.get(origin)
    if name is None or not parts or None in parts:
        return None
    return f"{name}[{', '.join(part for part in parts if part is not None)}]"


def stand_in(module: nn.Module, declared: Interface, returns: str, kinds: Kinds) -> nn.Module:
    """A stand-in for `module`, whose submodules must script already."""
    copy = shell(module, {})
    copy.__class__ = _kind(type(module), declared, returns, kinds)
    for hooks in ("_forward_hooks", "_forward_pre_hooks"):  # compiled with the module from torch 1.8 on
        copy.__dict__[hooks] = OrderedDict()
    return copy


def bare_stand_in(declared: Interface, returns: str, kinds: Kinds) -> nn.Module:
    """A stand-in without anything of the module but its signature, for one whose other parts do not compile either."""
    made = nn.Module()
    made.__class__ = _kind(nn.Module, declared, returns, kinds)
    return made


def change_returns(made: nn.Module, declared: Interface, returns: str, kinds: Kinds) -> None:
    """Let a stand-in return another type."""
    made.__class__ = _kind(type(made).__bases__[0], declared, returns, kinds)


def _kind(base: type, declared: Interface, returns: str, kinds: Kinds) -> type:
    key = (base, returns, declared.parameters)
    if key not in kinds:
        # The compiler gets the source of a forward from `inspect`, which reads linecache.
        file = f"<detparity stand-in {next(_number)}>"
        source = (
            f"def forward({', '.join(['self', *declared.parameters])}) -> {returns}:\n    raise NotImplementedError\n"
        )
        linecache.cache[file] = (len(source), None, source.splitlines(True), file)
        names: Dict[str, Any] = {
            "Any": Any,
            "List": typing.List,
            "Tuple": typing.Tuple,
            "Dict": typing.Dict,
            "Optional": typing.Optional,
            "Tensor": torch.Tensor,
            "__name__": __name__,
        }
        exec(compile(source, file, "exec", dont_inherit=True), names)  # our __future__ would make strings of its types
        members = {"forward": torch.jit.unused(names["forward"]), "__module__": base.__module__}
        members["__jit_unused_properties__"] = [n for n, v in inspect.getmembers(base) if isinstance(v, property)]
        # Methods marked for export are always compiled; their mistakes are not the parents'.
        for name, value in inspect.getmembers(base, inspect.isfunction):
            if getattr(value, "_torchscript_modifier", None) is torch._jit_internal.FunctionModifiers.EXPORT:
                members[name] = None
        kinds[key] = type(base.__name__, (base,), members)
    return kinds[key]
