"""What a model holds, as facts that explain why its code does not compile."""

from __future__ import annotations

import inspect
import types
from typing import Any, Dict, FrozenSet, Sequence

import torch
from torch import nn

from detparity.tools.doctor import source, source_facts


def facts_of(module: nn.Module) -> source_facts.Facts:
    kind = type(module)
    attributes = {name: _what(value) for name, value in vars(module).items() if not name.startswith("_")}
    for tensors in (module._parameters, module._buffers):
        attributes.update({name: source.NONE if value is None else source.VALUE for name, value in tensors.items()})
    layers: Dict[str, FrozenSet[str]] = {}
    for name, child in module._modules.items():
        held = isinstance(child, (nn.ModuleList, nn.Sequential, nn.ModuleDict))
        attributes[name] = source.NONE if child is None else source_facts.MODULES if held else source_facts.MODULE
        if held and child is not None:
            layers[name] = _mixed_among(list(child.children()))
    on_class: Dict[str, Any] = {}
    for base in reversed([base for base in kind.__mro__ if base not in (nn.Module, object)]):
        on_class.update({n: v for n, v in vars(base).items() if not n.startswith("_") and _plain(v)})
    constants = set(getattr(kind, "__constants__", ())) | set(getattr(kind, "__annotations__", ()))
    sources = [_source(base) for base in kind.__mro__ if issubclass(base, nn.Module) and _users(base)]
    made = frozenset().union(*(source_facts.made_outside_init(text) for text in sources if text))
    outside = getattr(kind.forward, "__globals__", {})
    numpy = frozenset(n for n, v in outside.items() if isinstance(v, types.ModuleType) and v.__name__ == "numpy")
    return source_facts.Facts(attributes, layers, frozenset(set(on_class) - set(attributes) - constants), made, numpy)


def _plain(value: Any) -> bool:
    return not callable(value) and not isinstance(value, (property, classmethod, staticmethod))


def _users(kind: type) -> bool:
    return not kind.__module__.startswith("torch.")


def _source(kind: type) -> str:
    """The source of a class as a module of its own, empty where there is none."""
    try:
        return inspect.cleandoc("\n" + inspect.getsource(kind))
    except (OSError, TypeError):
        return ""


def _what(value: Any) -> str:
    if value is None:
        return source.NONE
    if isinstance(value, types.FunctionType):
        return source.LAMBDA if value.__name__ == "<lambda>" else source.VALUE
    if not isinstance(value, (list, tuple, dict)):
        return source.VALUE
    items = list(value.values() if isinstance(value, dict) else value)
    if any(isinstance(item, nn.Module) for item in items):
        return source_facts.PYTHON_MODULES
    if not items:
        return source.EMPTY if not isinstance(value, tuple) else source.VALUE
    if isinstance(value, tuple):
        return source.VALUE
    if any(item is None for item in items):
        return source.HOLDS_NONE
    if isinstance(value, list) and {type(item) for item in items} == {int, list}:
        return source.ROUTES
    return source.MIXED if len({_type(item) for item in items}) > 1 else source.VALUE


def _type(value: Any) -> str:
    """The name of a type, with the types of a list's items."""
    if isinstance(value, torch.Tensor):
        return "Tensor"
    inner = sorted({_type(item) for item in value}) if isinstance(value, (list, tuple)) else []
    return f"{type(value).__name__}{inner if inner else ''}"


def _mixed_among(layers: Sequence[nn.Module]) -> FrozenSet[str]:
    """Attributes that are an int in one layer and a list in another."""
    kinds: Dict[str, set] = {}
    for layer in layers:
        for name, value in vars(layer).items():
            if not name.startswith("_") and isinstance(value, (int, list)) and not isinstance(value, bool):
                kinds.setdefault(name, set()).add(type(value))
    return frozenset(name for name, found in kinds.items() if found == {int, list})
