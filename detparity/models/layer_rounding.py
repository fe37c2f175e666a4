"""Half precision by rounding, for any version of torch: weights, and what each module returns; all computes in float32."""

from __future__ import annotations

import contextlib
import copy
from typing import Any, Collection, Iterator, List, TypeVar

import torch
from torch import nn

AnyModule = TypeVar("AnyModule", bound=nn.Module)


def rounded(value: Any, half: torch.dtype) -> Any:
    """A tensor, or the tensors of a list, with every number rounded."""
    if isinstance(value, torch.Tensor):
        return value.to(half).to(value.dtype) if value.is_floating_point() else value
    if isinstance(value, (list, tuple)):
        return type(value)(rounded(one, half) for one in value)
    return value


def rounded_copy(module: AnyModule, half: torch.dtype, unrounded: Collection[str] = ()) -> AnyModule:
    """A copy whose weights are rounded, those of the modules at the paths `unrounded` left as they are."""
    found = copy.deepcopy(module)
    with torch.no_grad():
        for path, part in found.named_modules():
            if not _is_left(path, unrounded):
                for value in (*part.parameters(recurse=False), *part.buffers(recurse=False)):
                    value.copy_(rounded(value, half))
    return found


@contextlib.contextmanager
def rounding(module: nn.Module, half: torch.dtype, unrounded: Collection[str] = ()) -> Iterator[None]:
    """For the block, what every module in `module` returns is rounded, but not what those at `unrounded` do."""
    hooks: List[Any] = []
    for path, part in module.named_modules():
        if path and not _is_left(path, unrounded):
            hooks.append(part.register_forward_hook(lambda _module, _given, found: rounded(found, half)))
    try:
        yield
    finally:
        for hook in hooks:
            hook.remove()


def _is_left(path: str, unrounded: Collection[str]) -> bool:
    return any(path == one or path.startswith(one + ".") for one in unrounded)
