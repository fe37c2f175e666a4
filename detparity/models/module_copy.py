"""Copies of modules of any kind: deep where that works, sharing what cannot be copied."""

from __future__ import annotations

import copy
from collections import OrderedDict
from typing import Any, Dict, List, Tuple, TypeVar

import torch
from torch import nn

Module = TypeVar("Module", bound=nn.Module)


def copied(module: Module) -> Tuple[Module, List[str]]:
    """A copy that training or exporting the original does not change, and what the two share because it cannot be copied.

    Stored activations (non-leaf tensors, which deepcopy refuses) are detached. Raises TypeError where no copy can be made.
    """
    try:
        return copy.deepcopy(module, _emptied(module)), []
    except Exception:  # torch and locks raise RuntimeError, TypeError or their own types
        memo: Dict[int, Any] = {}
    shared: List[str] = []
    for name, part in module.named_modules():
        for key, value in vars(part).items():
            if key not in ("_modules", "_parameters"):
                _remember(value, f"{name}.{key}".lstrip("."), memo, shared)
    try:
        return copy.deepcopy(module, memo), shared
    except Exception as error:
        raise TypeError(f"{type(module).__name__} cannot be copied: {' '.join(str(error).split())[:200]}") from None


def _emptied(module: nn.Module) -> Dict[int, Any]:
    """Copies of the empty dictionaries of every part, for deepcopy: a module has about ten, most of them for hooks, and copied one by
    one they take twice the time of its weights."""
    found = (value for part in module.modules() for value in vars(part).values())
    return {id(value): type(value)() for value in found if type(value) in (dict, OrderedDict) and not value}


def _remember(value: Any, name: str, memo: Dict[int, Any], shared: List[str]) -> None:
    if isinstance(value, torch.Tensor) and not value.is_leaf:
        memo[id(value)] = value.detach().clone()
    elif isinstance(value, dict):
        for key, item in value.items():
            _remember(item, f"{name}.{key}", memo, shared)
    elif not isinstance(value, (nn.Module, torch.Tensor)):
        try:
            copy.deepcopy(value, dict(memo))
        except Exception:  # whatever an object's own __deepcopy__ raises
            memo[id(value)] = value
            shared.append(name)
