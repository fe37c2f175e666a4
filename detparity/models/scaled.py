"""The weights of a module of any kind: in which order they are read, and the module with one of them scaled."""

from __future__ import annotations

import contextlib
from typing import Any, Dict, Iterator, Mapping

import torch
from torch import nn
from torch.utils._pytree import tree_flatten

from detparity.models.dispatch_mode import DispatchMode


def weights_of(module: nn.Module) -> Dict[str, torch.Tensor]:
    """Floating parameters by name, biases left out."""
    named = module.named_parameters()
    return {name: one for name, one in named if one.is_floating_point() and one.numel() and not _is_bias(name)}


def _is_bias(name: str) -> bool:
    return name.rpartition(".")[2].endswith("bias")


class Reading(DispatchMode):
    """Which of these tensors operators read. read: their names, in the order they are read first."""

    def __init__(self, tensors: Mapping[str, torch.Tensor]) -> None:
        super().__init__()
        self._names = {one.data_ptr(): name for name, one in tensors.items()}
        self.read: Dict[str, None] = {}

    def __torch_dispatch__(self, operator: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        for one in tree_flatten((args, kwargs or {}))[0]:
            if isinstance(one, torch.Tensor) and one.layout == torch.strided and one.data_ptr() in self._names:
                self.read[self._names[one.data_ptr()]] = None
        return operator(*args, **(kwargs or {}))


@contextlib.contextmanager
def scaled(module: nn.Module, name: str, factor: float) -> Iterator[None]:
    """For the block, a weight times a factor; afterwards what it was to the bit."""
    weight = weights_of(module)[name]
    before = weight.data
    try:
        weight.data = before * factor
        yield
    finally:
        weight.data = before
