"""Half precision as a runtime without its kernels computes it: every operator in float32, its result rounded to float16."""

from __future__ import annotations

from typing import Any

import torch
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_flatten, tree_map

HALF = torch.float16


class Rounded(TorchDispatchMode):
    """Operators whose floating operands are all float16 compute in float32 and round once. Views, and operators that mix types, are
    left as they are."""

    def __torch_dispatch__(self, operator: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        kwargs = kwargs or {}
        operands = [one for one in tree_flatten((args, kwargs))[0] if isinstance(one, torch.Tensor)]
        floating = {one.dtype for one in operands if one.is_floating_point()}
        if floating != {HALF} or _views(operator):
            return operator(*args, **kwargs)

        def higher(value: Any) -> Any:
            half = isinstance(value, torch.Tensor) and value.dtype == HALF
            return value.float() if half else torch.float32 if value is HALF else value

        found = operator(*tree_map(higher, args), **tree_map(higher, kwargs))
        stated = kwargs.get("dtype")
        if stated is not None and stated is not HALF:
            return found
        if operator._schema.is_mutable:
            target = next(one for one in operands if one.dtype == HALF)
            return target.copy_(found)
        return tree_map(_lower, found)


def _lower(value: Any) -> Any:
    return value.to(HALF) if isinstance(value, torch.Tensor) and value.dtype == torch.float32 else value


def _views(operator: Any) -> bool:
    """Whether an operator returns its operand, or a part of it, without computing."""
    returned = operator._schema.returns
    return any(one.alias_info is not None and not one.alias_info.is_write for one in returned)
