"""Copies of modules of any kind: deep where that works, sharing what cannot be copied."""

from __future__ import annotations

import copy
from typing import Any, Dict, List, Tuple

import torch
from torch import nn


def copied(module: nn.Module) -> Tuple[nn.Module, List[str]]:
    """A copy that training or exporting the original does not change, and what the two share because it cannot be copied.

    Stored activations (non-leaf tensors, which deepcopy refuses) are detached. Raises TypeError where no copy can be made.
    """
    memo: Dict[int, Any] = {}
    try:
        return copy.deepcopy(module), []
    except Exception:  # torch and locks raise RuntimeError, TypeError or their own types
        memo.clear()
    shared: List[str] = []
    for name, part in module.named_modules():
        for key, value in vars(part).items():
            if key not in ("_modules", "_parameters"):
                _remember(value, f"{name}.{key}".lstrip("."), memo, shared)
    try:
        return copy.deepcopy(module, memo), shared
    except Exception as error:
        raise TypeError(f"{type(module).__name__} cannot be copied: {' '.join(str(error).split())[:200]}") from None


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
